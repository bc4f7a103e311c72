#!/usr/bin/env python3
"""Interpolated modified Kneser-Ney straight from Chen and Goodman (1998, TR-10-98, section 3, eq. 26), by dictionaries and
recursion, apart from the Go code. Writes reference.json: for each order the discounts, and -ln p of every token.

    python3 reference.py <opticks.txt >reference.json
"""
import collections, json, math, sys

lines = sys.stdin.read().splitlines()


def fit(docs, order, vocab, begin):
    """docs: lists of tokens; vocab: the set of tokens that can be predicted; begin: a token that is context only, or None."""
    raw = [collections.Counter() for _ in range(order + 1)]
    left = [collections.defaultdict(set) for _ in range(order + 1)]
    for d in docs:
        for k in range(1, order + 1):
            for i in range(len(d) - k + 1):
                g = tuple(d[i:i + k])
                raw[k][g] += 1
                if i > 0:
                    left[k][g].add(d[i - 1])
    count = [None] * (order + 1)
    for k in range(1, order + 1):
        count[k] = {}
        for g, c in raw[k].items():
            if g == (begin,):
                continue
            n = c if k == order or g[0] == begin else len(left[k][g])
            if n > 0:
                count[k][g] = n
    discounts = [None]
    for k in range(1, order + 1):
        n = [sum(1 for c in count[k].values() if c == i) for i in range(5)]
        d = [0.5, 1.0, 1.5]
        if n[1] and n[2] and n[3]:
            y = n[1] / (n[1] + 2 * n[2])
            e = [1 - 2 * y * n[2] / n[1], 2 - 3 * y * n[3] / n[2], 3 - 4 * y * n[4] / n[3]]
            if all(0 < x <= i + 1 for i, x in enumerate(e)):
                d = e
        discounts.append(d)
    after = [collections.defaultdict(list) for _ in range(order + 1)]
    for k in range(1, order + 1):
        for g, c in count[k].items():
            after[k][g[:-1]].append(c)

    def p(w, h):
        k = len(h) + 1
        lower = 1 / len(vocab) if k == 1 else p(w, h[1:])
        counts = after[k].get(h)
        if not counts:
            return lower
        d = discounts[k]
        total = sum(counts)
        gamma = sum(d[min(c, 3) - 1] for c in counts) / total
        c = count[k].get(h + (w,), 0)
        return (c - d[min(c, 3) - 1] if c else 0) / total + gamma * lower

    return discounts[1:], p


out = []
for unit, orders in (("words", (1, 2, 3, 4)), ("bytes", (1, 3, 6))):
    for order in orders:
        if unit == "words":
            begin = "<s>"
            docs = [["<s>"] + l.split() + ["</s>"] for l in lines[:-5]]
            held = [["<s>"] + l.split() + ["</s>"] for l in lines[-5:]]
            vocab = {w for d in docs for w in d} - {"<s>"} | {"<unk>"}
            held = [[w if w in vocab or w == "<s>" else "<unk>" for w in d] for d in held]
        else:
            begin = None
            docs = [list((l + "\n").encode()) for l in lines[:-5]]
            held = [list((l + "\n").encode()) for l in lines[-5:]]
            vocab = set(range(256))
        d, p = fit(docs, order, vocab, begin)
        nats = []
        for doc in docs[:3] + held:
            for i in range(1 if begin else 0, len(doc)):
                h = tuple(doc[max(0, i - order + 1):i])
                nats.append(round(-math.log(p(doc[i], h)), 9))
        out.append({"unit": unit, "order": order, "discounts": d, "nats": nats})
json.dump(out, sys.stdout)
print()
