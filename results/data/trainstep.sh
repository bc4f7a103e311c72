#!/usr/bin/env bash
# Writes to the standard output where the time of a training step goes (BenchmarkTrainStep of package train), by one thread:
#   results/data/trainstep.sh > results/data/trainstep-profile.txt
# Kernels are the functions of internal/kernel by their own time; the peak's own loop is left out of the profile.
set -euo pipefail
cd "$(dirname "$0")/../.."
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
go test -c -o "$tmp/train.test" ./train
echo "# A training step of the decoder LM (d=256, 4 layers, 2 rows of 1024 tokens) by one thread; written by results/data/trainstep.sh"
(cd train && "$tmp/train.test" -test.run - -test.bench TrainStep -test.cpu 1 -test.benchtime "${1:-20x}" -test.cpuprofile "$tmp/cpu.prof") | grep -E '^(goos|goarch|cpu|Benchmark)'
top() { go tool pprof -top -ignore 'paired\.(FMA|together)' "$@" "$tmp/train.test" "$tmp/cpu.prof" 2>/dev/null; }
top -nodefraction=0 -nodecount=100000 | awk '
	$1 ~ /^[0-9.]+(us|ms|s|mins)?$/ && $2 ~ /%$/ {
		t = $1 + 0; if ($1 ~ /us$/) t /= 1e6; else if ($1 ~ /ms$/) t /= 1e3; else if ($1 ~ /mins$/) t *= 60
		all += t
		if ($6 ~ /^attnbench\/internal\/kernel\./) kernel += t
		else if ($6 ~ /^runtime\./) runtime += t
		else other += t
	}
	END { printf "# of %.1f s: kernels %.1f%%, other Go code %.1f%%, Go runtime (copying, clearing, scheduling) %.1f%%\n", all, 100*kernel/all, 100*other/all, 100*runtime/all }'
top -nodecount=40 | sed -n '/flat%/,$p' | sed 's/\[go\.shape.*\]/[…]/'
