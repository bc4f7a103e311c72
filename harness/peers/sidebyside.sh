#!/usr/bin/env bash
# Times our mechanisms and what a PyTorch user writes instead, in turn, and appends the Go benchmark lines of both to a file.
#
#	harness/peers/sidebyside.sh --out results/data/peers.txt --python "chroot /opt/peer/trixie python3"
#	go run ./cmd/attnbench table results/data/peers.txt --unit sec/op
#	harness/peers/ratios.py results/data/peers.txt
#
# A round measures every cell once, ours and its peers one after the other, so that both see the same weather; its
# number is the seed. Stopped and started again it goes on with the first cell that the file lacks.
set -euo pipefail

usage() {
	cat <<-'END'
		usage: sidebyside.sh --out FILE [options]
		  --out FILE       the file of results, which is appended to
		  --python CMD     a Python that has torch >= 2.2, maybe by chroot (default python3)
		  --grid NAME      tiny (is everything in order?), small (the default) or full
		  --rounds N       samples of each cell (default 7)
		  --only REGEX     cells whose line "Kind threads ours peers n dim causal" matches, by grep -E
		  --seconds S      time of a sample, which has at least one run (default 0.3)
		  --list           print the cells and stop
	END
}

python=python3 grid=small rounds=7 only=. seconds=0.3 out= list=
while (($#)); do
	case $1 in
	--list) list=1 && shift && continue ;;
	-h | --help) usage && exit ;;
	--python | --grid | --rounds | --only | --seconds | --out)
		(($# > 1)) || { echo "sidebyside.sh: $1: want a value" >&2 && exit 2; } ;;&
	--python) python=$2 ;;
	--grid) grid=$2 ;;
	--rounds) rounds=$2 ;;
	--only) only=$2 ;;
	--seconds) seconds=$2 ;;
	--out) out=$(realpath -m "$2") ;;
	*) echo "sidebyside.sh: unknown option $1" >&2 && usage >&2 && exit 2 ;;
	esac
	shift 2
done
cd "$(dirname "$0")/../.."

# cells KINDS THREADS OURS PEERS LENGTHS DIMS CAUSAL prints a line for each combination; lists are between commas.
cells() {
	local k t n d c
	for k in ${1//,/ }; do for t in ${2//,/ }; do for d in ${6//,/ }; do for n in ${5//,/ }; do for c in ${7//,/ }; do
		echo "$k $t $3 $4 $n $d $c"
	done; done; done; done; done
}

linear=torch-linear-loop,torch-linear-batched
gla=torch-gla-loop,torch-gla-batched,torch-gla-scalar-loop,torch-gla-scalar-batched
delta=torch-delta-loop,torch-delta-batched
gated=torch-gated-delta-loop,torch-gated-delta-batched
window() { echo "torch-masked:window=$1,torch-local:window=$1,torch-local-loop:window=$1"; }

# grids prints the cells of the grid that was asked for, those of one number of threads together.
grids() {
	case $grid in
	tiny)
		cells Prefill 1,2 full torch-sdpa 128 16 true,false
		cells Train 1,2 full torch-sdpa 128 16 true
		cells Decode 1,2 full torch-sdpa 256 16 true
		cells Prefill 1,2 sliding:window=32 "$(window 32)" 128 16 true
		cells Prefill 1,2 linear $linear 128 16 true
		cells Train 1,2 linear $linear 128 16 true
		cells Prefill 1,2 gla $gla 128 16 true
		cells Train 1,2 gla $gla 128 16 true
		cells Prefill,Train 1,2 deltanet:conv=0 $delta 128 16 true
		cells Prefill,Train 1,2 gateddeltanet:conv=0 $gated 128 16 true
		;;
	small)
		cells Prefill 1,2 full torch-sdpa 512,2048 64,128 true,false
		cells Train 1,2 full torch-sdpa 4096 64,128 true,false
		cells Decode 1,2 full torch-sdpa 4096,131072 64,128 true
		cells Prefill 1 sliding:window=1024 "$(window 1024)" 16384 64 true
		cells Prefill 1,2 linear $linear 16384 64 true
		cells Train 1,2 linear $linear 16384 64 true
		cells Prefill 1,2 gla $gla 16384 64 true
		cells Train 1,2 gla $gla 16384 64 true
		cells Prefill,Train 1,2 deltanet:conv=0 $delta 4096 64 true
		cells Prefill,Train 1,2 gateddeltanet:conv=0 $gated 4096 64 true
		;;
	full)
		cells Prefill 1,2 full torch-sdpa 512,1024,2048,4096,8192,16384 64,128 true,false
		cells Train 1,2 full torch-sdpa 512,1024,2048,4096,8192,16384 64,128 true,false
		cells Decode 1,2 full torch-sdpa 4096,32768,131072 64,128 true
		cells Prefill 1,2 sliding:window=1024 "$(window 1024)" 16384 64,128 true
		cells Prefill 1,2 linear $linear 4096,16384 64,128 true
		cells Train 1,2 linear $linear 4096,16384 64,128 true
		cells Prefill 1,2 gla $gla 4096,16384 64,128 true
		cells Train 1,2 gla $gla 4096,16384 64,128 true
		cells Prefill,Train 1,2 deltanet:conv=0 $delta 4096,16384 64,128 true
		cells Prefill,Train 1,2 gateddeltanet:conv=0 $gated 4096,16384 64,128 true
		;;
	*) echo "sidebyside.sh: --grid $grid: want tiny, small or full" >&2 && exit 2 ;;
	esac
}

all=$(grids)
mapfile -t todo < <(grep -E -- "$only" <<<"$all" | sort -s -k 2,2n)
if [[ ! ${todo[*]} ]]; then
	echo "sidebyside.sh: --only $only: no cell of grid $grid matches; --list shows them" >&2
	exit 2
fi
if [[ $list ]]; then
	printf '%s\n' "${todo[@]}"
	exit
fi
[[ $out ]] || { usage >&2 && exit 2; }

# name KIND MECH N DIM CAUSAL is the benchmark's name of a cell, ours or a peer's.
name() { echo "$1/mech=$2/n=$3/heads=8/dim=$4/causal=$5/kv=8/batch=1"; }

# has NAME THREADS SEED reports whether the file holds that sample.
has() {
	local suffix=
	(($2 == 1)) || suffix=-$2
	grep -qE -- "^Benchmark$1$suffix"$'\t'".*[[:space:]]$3(\.0+)? seed" "$out"
}

declare -A last # the value in force of each configuration line in the file

# keep copies benchmark lines to the file, a configuration line only where its value changes.
keep() {
	local line key
	while IFS= read -r line; do
		case $line in
		Benchmark*) sed -E 's/^(Benchmark[^[:space:]]+)[[:space:]]+/\1\t/' <<<"$line" >>"$out" ;;
		Unit\ *) grep -qxF -- "$line" "$out" || echo "$line" >>"$out" ;;
		[a-z]*:\ *)
			key=${line%%:*}
			[[ ${last[$key]-} == "$line" ]] || echo "$line" >>"$out"
			last[$key]=$line
			;;
		\#\ skipped*) echo "$line" >&2 ;;
		\#*) echo "$line" >>"$out" ;;
		esac
	done
}

tmp=$(mktemp -d)
peer= # the process id of the Python that answers
trap '[[ -z $peer ]] || kill "$peer" 2>/dev/null || true; rm -rf "$tmp"' EXIT
go test -c -o "$tmp/ours" ./harness

mkdir -p "$(dirname "$out")"
touch "$out"
# A line that a crash has cut is taken off: it would read as a figure.
[[ ! -s $out || $(tail -c 1 "$out") == "" ]] || sed -i '$d' "$out"
while IFS= read -r line; do last[${line%%:*}]=$line; done < <(grep -E '^[a-z][^ ]*: ' "$out" || true)
keep <<<"commit: $(git rev-parse --short HEAD)$(git diff --quiet HEAD -- . ':!results/data' || echo -dirty)"

# ours KIND THREADS MECH N DIM CAUSAL SEED
ours() {
	(cd harness && "$tmp/ours" -test.run '^$' -test.cpu "$2" -test.benchtime "${seconds}s" -test.bench "^Benchmark$1\$" \
		-mechs "$3" -lengths "$4" -dim "$5" -causal "$6" -seed "$7" -heads 8 -rss=false -fidelity -1) >"$tmp/lines" ||
		{ cat "$tmp/lines" >&2 && return 1; }
	keep <"$tmp/lines"
}

# ask CELL SEED THREADS sends the peer's process a cell and keeps what it answers.
ask() {
	echo "$1 $2" >&"$ask"
	# Of a form that is not ours the revision is always the first; it must not take over that of the line before.
	printf 'revision: 1\nworkers: %d\n' "$3" >"$tmp/lines"
	local line
	while IFS= read -r line <&"$answer"; do
		if [[ $line == "# done" ]]; then
			keep <"$tmp/lines"
			return
		fi
		echo "$line" >>"$tmp/lines"
	done
	echo "sidebyside.sh: $python ended at $1" >&2
	return 1
}

# open_peer THREADS starts the Python that answers for that number of threads. Its code goes by the command
# line, as a chroot sees none of our files.
open_peer() {
	mkfifo "$tmp/ask" "$tmp/answer"
	$python -c "$(<harness/peers/peers.py)" --serve --threads "$1" --seconds "$seconds" <"$tmp/ask" >"$tmp/answer" &
	peer=$!
	exec {ask}>"$tmp/ask" {answer}<"$tmp/answer"
	rm "$tmp/ask" "$tmp/answer"
	local line
	: >"$tmp/lines"
	while IFS= read -r line <&"$answer"; do
		if [[ $line == "# ready" ]]; then
			keep <"$tmp/lines"
			return
		fi
		echo "$line" >>"$tmp/lines"
	done
	echo "sidebyside.sh: $python did not start" >&2
	exit 1
}

close_peer() {
	[[ $peer ]] || return 0
	exec {ask}>&- {answer}<&-
	wait "$peer" || true
	peer=
}

read -r load _ </proc/loadavg || load=0
if [[ ${load%.*} != 0 ]]; then
	echo "sidebyside.sh: load is $load: want an idle machine, where the ratios are those of the code" >&2
fi
threads=0
for ((r = 1; r <= rounds; r++)); do
	for ((i = 0; i < ${#todo[@]}; i++)); do
		read -r kind t mech peers n dim causal <<<"${todo[i]}"
		start=$SECONDS left=()
		for m in "$mech" ${peers//,/ }; do
			has "$(name "$kind" "$m" "$n" "$dim" "$causal")" "$t" "$r" || left+=("$m")
		done
		((${#left[@]})) || continue
		if [[ ! $peer ]] || ((t != threads)); then # before ours, which it would part from its peer
			close_peer
			open_peer "$t"
			threads=$t
		fi
		for m in "${left[@]}"; do
			if [[ $m == "$mech" ]]; then
				ours "$kind" "$t" "$mech" "$n" "$dim" "$causal" "$r"
			else
				ask "$(name "$kind" "$m" "$n" "$dim" "$causal")" "$r" "$t"
			fi
		done
		printf '%6ds  round %d of %d, cell %d of %d: %s n=%s dim=%s causal=%s threads=%s: %s (%ds)\n' \
			$SECONDS "$r" "$rounds" $((i + 1)) ${#todo[@]} "$kind" "$n" "$dim" "$causal" "$t" "${left[*]}" $((SECONDS - start)) >&2
	done
	close_peer # each round has a process of its own
done
echo "$out holds $rounds rounds of ${#todo[@]} cells" >&2
