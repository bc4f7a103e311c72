#!/usr/bin/env python3
"""Prints, for each cell of a file that sidebyside.sh wrote, how many times faster ours is than each peer: the
median, smallest and largest of the ratios of samples that were taken in one round, and the peer that is best.

    harness/peers/ratios.py results/data/peers.txt
"""
import collections
import re
import statistics
import sys

# Which form of PyTorch stands against which mechanism.
AGAINST = {
    "torch-sdpa": "full", "torch-masked": "sliding", "torch-local": "sliding", "torch-local-loop": "sliding",
    "torch-linear-loop": "linear", "torch-linear-batched": "linear", "torch-gla-loop": "gla", "torch-gla-batched": "gla",
    "torch-gla-scalar-loop": "gla", "torch-gla-scalar-batched": "gla",
    "torch-delta-loop": "deltanet", "torch-delta-batched": "deltanet", "torch-gated-delta-loop": "gateddeltanet", "torch-gated-delta-batched": "gateddeltanet",
}
LINE = re.compile(r"Benchmark(\w+)/mech=([^/]+)(/\S+?batch=\d+)(?:-(\d+))?\s+\d+\s+(.*)")
SCALE = {"sec/op": 1, "ns/op": 1e-9}


def read(path):
    """Seconds and of-roof by (kind, shape, threads), mechanism and seed."""
    cells = collections.defaultdict(lambda: collections.defaultdict(dict))
    with open(path) as f:
        for number, line in enumerate(f, 1):
            m = LINE.match(line)
            if not m:
                continue
            kind, mech, shape, threads, rest = m.groups()
            words = rest.split()
            try:
                values = {unit: float(x) for x, unit in zip(words[::2], words[1::2])}
                sec = next(values[u] * x for u, x in SCALE.items() if u in values)
                cells[kind, shape, int(threads or 1)][mech][values["seed"]] = sec, values.get("of-roof")
            except (ValueError, KeyError, StopIteration):
                sys.exit(f"ratios.py: {path}:{number}: want figures with sec/op or ns/op, and a seed")
    return cells


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: ratios.py FILE")
    rows = []
    for (kind, shape, threads), mechs in read(sys.argv[1]).items():
        for ours, samples in mechs.items():
            name, _, option = ours.partition(":")
            found = []
            for peer, theirs in mechs.items():
                form, _, its = peer.partition(":")
                pairs = [theirs[s][0] / samples[s][0] for s in samples if s in theirs]
                if AGAINST.get(form) == name and its in ("", option) and pairs:
                    found.append((statistics.median(pairs), min(pairs), max(pairs), len(pairs), peer))
            roof = [r for _, r in samples.values() if r is not None]
            for i, (mid, low, high, n, peer) in enumerate(sorted(found)):
                cut = dict(p.split("=") for p in shape.strip("/").split("/"))
                rows.append((kind, ours, cut["n"], cut["dim"], cut["causal"], str(threads), f"{statistics.median(roof):.2f}" if roof else "",
                             peer, "best" if i == 0 and len(found) > 1 else "", f"{mid:.2f}", f"{low:.2f}..{high:.2f}", str(n)))
    if not rows:
        sys.exit(f"ratios.py: {sys.argv[1]}: no sample of ours has the seed of a peer's: want a file that sidebyside.sh wrote")
    head = "kind", "ours", "n", "dim", "causal", "threads", "of-roof", "peer", "", "times", "range", "rounds"
    widths = [max(len(r[i]) for r in [head, *rows]) for i in range(len(head))]
    for r in [head, *rows]:
        print("  ".join(x.ljust(w) for x, w in zip(r, widths)).rstrip())


if __name__ == "__main__":
    main()
