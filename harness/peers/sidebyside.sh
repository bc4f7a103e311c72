#!/usr/bin/env bash
# Times full attention and PyTorch's in turn, one thread, and writes Go benchmark lines of both:
#
#	harness/peers/sidebyside.sh "python3" 7 > results/data/peers.txt
#	go run ./cmd/attnbench table results/data/peers.txt --unit sec/op
#
# The first argument runs a Python that has torch (it may be a chroot command), the second is the number of rounds.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${1:-python3} rounds=${2:-7}
test=$(mktemp)
trap 'rm -f "$test"' EXIT
go test -c -o "$test" ./harness
for ((r = 1; r <= rounds; r++)); do
	echo "round $r of $rounds" >&2
	for dim in 64 128; do
		(cd harness && "$test" -test.run xxx -test.cpu 1 -test.benchtime 0.3s -test.bench '(Prefill|Train)/mech=full$' \
			-lengths 512,2048 -dim $dim -seed "$r" -rss=false -fidelity -1)
		(cd harness && "$test" -test.run xxx -test.cpu 1 -test.benchtime 0.3s -test.bench 'Decode/mech=full$' \
			-lengths 32768 -dim $dim -seed "$r" -rss=false -fidelity -1)
		$python - --kind prefill,train --lengths 512,2048 --dim $dim --threads 1 --seconds 0.3 < harness/peers/peers.py
		$python - --kind decode --lengths 32768 --dim $dim --threads 1 --seconds 0.3 < harness/peers/peers.py
	done
done
