#!/usr/bin/env python3
"""Times PyTorch's CPU attention in the cells of attnbench and prints Go benchmark lines, so that
`attnbench table` shows a peer as one more column and `benchstat` compares it.

    python3 peers.py --kind prefill,train,decode --lengths 512,4096 --dim 64 --threads 1 --count 7

Needs torch >= 2.2; nothing else. Each line is one sample: the median of the runs inside it.
"""
import argparse
import statistics
import sys
import time

import torch
import torch.nn.functional as F


def sdpa(q, k, v, causal):
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal)


def window_mask(q, k, v, causal, w):
    """A boolean mask, the form that most users write: the full square is computed."""
    n = q.shape[-2]
    i = torch.arange(n)
    gap = i[:, None] - i[None, :]
    mask = (gap >= 0) & (gap < w) if causal else gap.abs() < w
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def window_blocks(q, k, v, causal, w):
    """Block-local reshaping: each block of w queries against its own and the previous block."""
    assert causal and q.shape[-2] % w == 0
    b, h, n, d = q.shape
    m = n // w
    blocks = lambda x: x.reshape(b, h, m, w, x.shape[-1])
    before = lambda x: torch.cat([torch.zeros_like(x[:, :, :1]), x[:, :, :-1]], dim=2)
    qb, kb, vb = blocks(q), blocks(k), blocks(v)
    kk, vv = torch.cat([before(kb), kb], dim=3), torch.cat([before(vb), vb], dim=3)
    i = torch.arange(w)[:, None] + w
    j = torch.arange(2 * w)[None, :]
    see = (j <= i) & (j > i - w)
    first = see & (j >= w)
    mask = torch.cat([first[None], see[None].expand(m - 1, -1, -1)])[None, None]
    out = F.scaled_dot_product_attention(qb, kk, vv, attn_mask=mask)
    return out.reshape(b, h, n, d)


def linear_chunks(q, k, v, causal, chunk=128):
    """elu+1 linear attention with its normaliser, a loop over chunks: the best plain form."""
    assert causal
    q, k = F.elu(q) + 1, F.elu(k) + 1
    b, h, n, d = q.shape
    s = q.new_zeros(b, h, d, v.shape[-1])
    z = q.new_zeros(b, h, d, 1)
    low = torch.ones(chunk, chunk).tril()
    out = []
    for t in range(0, n, chunk):
        qc, kc, vc = q[:, :, t:t + chunk], k[:, :, t:t + chunk], v[:, :, t:t + chunk]
        m = qc.shape[-2]
        a = (qc @ kc.transpose(-1, -2)) * low[:m, :m]
        num = a @ vc + qc @ s
        den = a.sum(-1, keepdim=True) + qc @ z
        out.append(num / (den + 1e-6))
        s = s + kc.transpose(-1, -2) @ vc
        z = z + kc.sum(-2)[..., None]
    return torch.cat(out, dim=-2)


def timed(f, seconds):
    """Median seconds of a run, after one to warm up; at least 3 runs, about `seconds` in all."""
    f()
    runs, start = [], time.perf_counter()
    while len(runs) < 3 or time.perf_counter() - start < seconds:
        t = time.perf_counter()
        f()
        runs.append(time.perf_counter() - t)
        if len(runs) >= 200:
            break
    return statistics.median(runs)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--kind", default="prefill", help="of prefill, train, decode")
    p.add_argument("--mechs", default="torch-sdpa",
                   help="of torch-sdpa, torch-window-mask, torch-window-blocks, torch-linear")
    p.add_argument("--lengths", default="512,1024,4096")
    p.add_argument("--heads", type=int, default=8)
    p.add_argument("--dim", default="64", help="one or more head widths")
    p.add_argument("--causal", default="true", help="true, false or true,false")
    p.add_argument("--window", type=int, default=1024)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--count", type=int, default=1, help="samples a cell")
    p.add_argument("--seconds", type=float, default=0.5, help="time a sample")
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(1)

    forms = {
        "torch-sdpa": sdpa,
        "torch-window-mask": lambda q, k, v, c: window_mask(q, k, v, c, a.window),
        "torch-window-blocks": lambda q, k, v, c: window_blocks(q, k, v, c, a.window),
        "torch-linear": linear_chunks,
    }
    unknown = [m for m in a.mechs.split(",") if m not in forms]
    if unknown:
        sys.exit(f"peers.py: unknown mechanism {unknown[0]!r}: want one of {', '.join(forms)}")

    print("toolchain: torch-" + torch.__version__)
    print(f"threads: {a.threads}")
    print("Unit tok/s better=higher")
    for _ in range(a.count):
        for kind in a.kind.split(","):
            for mech in a.mechs.split(","):
                if kind == "decode" and mech != "torch-sdpa":
                    continue  # the others are forms of a whole pass
                for dim in map(int, a.dim.split(",")):
                    for n in map(int, a.lengths.split(",")):
                        for causal in a.causal.split(","):
                            cell(kind, mech, forms[mech], n, dim, causal == "true", a)


def cell(kind, mech, form, n, dim, causal, a):
    h = a.heads
    queries = 1 if kind == "decode" else n
    # [batch, time, heads, dim] in memory, as a projection leaves it, seen as [batch, heads, time, dim].
    make = lambda t: torch.randn(1, t, h, dim).transpose(1, 2)
    q, k, v = make(queries), make(n), make(n)
    if kind == "decode":  # a cache lies head-major
        k, v = k.contiguous(), v.contiguous()
    if kind == "train":
        grad = torch.randn(1, n, h, dim).transpose(1, 2)
        for x in (q, k, v):
            x.requires_grad_(True)

        def run():
            out = form(q, k, v, causal)
            torch.autograd.grad(out, (q, k, v), grad)
    else:
        def run():
            with torch.no_grad():
                form(q, k, v, causal and kind != "decode")
    sec = timed(run, a.seconds)
    name = f"Benchmark{kind.capitalize()}/mech={mech}"
    if "window" in mech:
        name += f":window={a.window}"
    name += f"/n={n}/heads={h}/dim={dim}/causal={str(causal).lower()}/kv={h}/batch=1"
    if a.threads > 1:
        name += f"-{a.threads}"
    print(f"{name} 1 {sec:.9f} sec/op {queries / sec:.6g} tok/s", flush=True)


if __name__ == "__main__":
    main()
