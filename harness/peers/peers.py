#!/usr/bin/env python3
"""Times what a PyTorch user writes instead, in the cells of attnbench, and prints Go benchmark lines, so that
`attnbench table` shows a peer as one more column and `benchstat` compares it.

    python3 peers.py --kind Prefill,Train --mechs torch-sdpa --lengths 512,4096 --dim 64,128 --threads 2 --count 7
    echo 'Decode/mech=torch-sdpa/n=4096/heads=8/dim=64/causal=true/kv=8/batch=1 3' | python3 peers.py --serve

Needs torch >= 2.2 and nothing else. Every form is checked against its plain definition in float64, output and
gradients, before anything is timed. One line is one sample: the mean of the runs inside it, as testing.B has it.
"""
import argparse
import ctypes
import itertools
import os
import platform
import sys
import time


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--kind", default="Prefill", help="of Prefill, Train, Decode")
    p.add_argument("--mechs", default="torch-sdpa", help="forms, such as torch-sdpa,torch-local:window=1024")
    p.add_argument("--lengths", default="512,4096")
    p.add_argument("--heads", type=int, default=8)
    p.add_argument("--dim", default="64", help="widths of a head")
    p.add_argument("--causal", default="true", help="true, false or true,false")
    p.add_argument("--batch", type=int, default=1)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--count", type=int, default=1, help="samples of each cell")
    p.add_argument("--seed", type=int, default=1, help="seed of the first sample; each further one has the next")
    p.add_argument("--seconds", type=float, default=0.3, help="time of a sample, which has at least one run")
    p.add_argument("--check", action="store_true", help="check the forms and time nothing")
    p.add_argument("--serve", action="store_true",
                   help="read cells from the standard input, each a benchmark's name and a seed; answer each by its line and '# done'")
    return p.parse_args()


ARGS = arguments()
# torch and the BLAS under it read these as they are loaded. torch.set_num_threads alone leaves OpenBLAS
# on all cores, and a "single" thread then computes on two.
for name in "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS":
    os.environ[name] = str(ARGS.threads)
try:
    import torch
    import torch.nn.functional as F
except ImportError as e:
    sys.exit(f"peers.py: {e}: want a Python that has torch >= 2.2")


class Bad(Exception):
    """A cell that no form computes: says what is allowed."""


# A form is a function of a cell (n, causal, dim, window) and a chunk size that prepares what does not depend on
# the inputs, such as a mask, and returns the function of the inputs that is timed. All inputs and outputs are
# [batch, heads, time, width].


def sdpa(c, chunk):
    """The fused kernel."""
    causal = c.causal and c.kind != "Decode"
    return lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=causal)


def seen(c, queries, keys):
    """Whether a query at one position sees a key at another: window counts the token itself."""
    gap = queries[:, None] - keys[None, :]
    return (gap >= 0) & (gap < c.window) if c.causal else gap.abs() < c.window


def masked(c, chunk):
    """A boolean mask, the form that most users write: the whole square is computed."""
    at = torch.arange(c.n)
    mask = seen(c, at, at)
    return lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def local(c, chunk):
    """Blocks of `window` queries, each against its own block and the one before, under an additive mask. The
    blocks lie in the batch, which is where the fused kernel wants them: of five dimensions it takes none."""
    w = c.window
    at = torch.arange(c.n, dtype=torch.float32).reshape(-1, w)
    keys = torch.arange(-w, w)[None, :]
    see = seen(c, torch.arange(w), keys[0])[None].repeat(len(at), 1, 1)
    see[0] &= keys >= 0
    mask = torch.zeros(see.shape).masked_fill(~see, -torch.inf)[:, None]

    def run(q, k, v):
        b, h, n, d = q.shape
        # [batch, heads, time, d] is cut into [batch · blocks, heads, window, d].
        cut = lambda x: x.unflatten(2, (-1, w)).transpose(1, 2)
        before = lambda x: torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1)
        pair = lambda x: torch.cat([before(x), x], 3).flatten(0, 1)
        out = F.scaled_dot_product_attention(
            cut(q).flatten(0, 1), pair(cut(k)), pair(cut(v)), attn_mask=mask.repeat(b, 1, 1, 1) if b > 1 else mask)
        return out.unflatten(0, (b, -1)).transpose(1, 2).flatten(2, 3)
    return run


def local_loop(c, chunk):
    """A loop over chunks of queries, each against the slice of keys that some of them see."""
    steps = []
    for t in range(0, c.n, chunk):
        end = min(t + chunk, c.n)
        first = max(0, t - c.window + 1)
        see = seen(c, torch.arange(t, end), torch.arange(first, end))
        steps.append((t, end, first, torch.zeros(see.shape).masked_fill(~see, -torch.inf)))

    def run(q, k, v):
        return torch.cat([F.scaled_dot_product_attention(q[:, :, t:end], k[:, :, a:end], v[:, :, a:end], attn_mask=mask)
                          for t, end, a, mask in steps], 2)
    return run


def flat(x):
    """[batch · heads, time, width] without a copy where the batch is 1."""
    return x.flatten(0, 1)


def with_ones(v):
    """v with a column of ones: its sums are the normaliser of linear attention."""
    return torch.cat([v, torch.ones_like(v[..., :1])], -1)


def divided(x):
    """Numerator over denominator, which is the last column."""
    return x[..., :-1] / (x[..., -1:] + 1e-6)


def linear_loop(c, chunk):
    """elu+1 linear attention: a loop over chunks that carries the state. split, and not slices, whose gradients
    would each be as long as the whole sequence."""
    def run(q, k, v):
        b, h, n, d = q.shape
        q, k, v = F.elu(flat(q)) + 1, F.elu(flat(k)) + 1, with_ones(flat(v))
        out, s = [], q.new_zeros(b * h, d, v.shape[-1])
        for qc, kc, vc in zip(*(x.split(chunk, 1) for x in (q, k, v))):
            kc = kc.transpose(1, 2)
            out.append(torch.baddbmm(torch.bmm(qc, s), torch.bmm(qc, kc).tril_(), vc))
            s = torch.baddbmm(s, kc, vc)
        return divided(torch.cat(out, 1)).unflatten(0, (b, h))
    return run


def chunked(x, chunk):
    """[batch, heads, chunks, chunk, width], each head by itself in memory, which is what batched products want."""
    return x.contiguous().unflatten(2, (-1, chunk))


def linear_batched(c, chunk):
    """elu+1 linear attention: all chunks at once, their states by a cumulative sum."""
    def run(q, k, v):
        q, k, v = (chunked(x, chunk) for x in (F.elu(q) + 1, F.elu(k) + 1, with_ones(v)))
        kt = k.transpose(-1, -2)
        states = kt @ v
        return divided((q @ kt).tril_() @ v + q @ (states.cumsum(2) - states)).flatten(2, 3)
    return run


# Gated linear attention in chunks, with G the cumulative sum of the log decay g inside a chunk:
#
#     o = tril((q e^G) (k e^-G)ᵀ) v + (q e^G) S,   S ← e^{G at the end} (S + (k e^-G)ᵀ v)
#
# g has the width of a head (GLA), or 1 (one decay a head and token, as in Mamba-2). e^-G is far from the largest
# float32 here: g is log σ(x)/16, about -0.05 a token, and chunks are of 128 tokens at the most.


def gla_loop(c, chunk):
    """A loop over chunks that carries the state."""
    def run(q, k, v, g):
        b, h, n, d = q.shape
        out, s = [], q.new_zeros(b * h, d, v.shape[-1])
        for qc, kc, vc, gc in zip(*(flat(x).split(chunk, 1) for x in (q * d ** -0.5, k, v, g))):
            sums = gc.cumsum(1)
            qc, kc = qc * sums.exp(), (kc * (-sums).exp()).transpose(1, 2)
            out.append(torch.baddbmm(torch.bmm(qc, s), torch.bmm(qc, kc).tril_(), vc))
            s = torch.baddbmm(s, kc, vc) * sums[:, -1:].exp().transpose(1, 2)
        return torch.cat(out, 1).unflatten(0, (b, h))
    return run


def gla_batched(c, chunk):
    """All chunks at once, but for the sum over their states."""
    def run(q, k, v, g):
        q, k, v, g = (chunked(x, chunk) for x in (q * q.shape[-1] ** -0.5, k, v, g))
        sums = g.cumsum(3)
        q, kt = q * sums.exp(), (k * (-sums).exp()).transpose(-1, -2)
        s = [q.new_zeros(*q.shape[:2], q.shape[-1], v.shape[-1])]
        for state, end in zip((kt @ v).unbind(2), sums[:, :, :, -1].exp().unsqueeze(-1).unbind(2)):
            s.append((s[-1] + state) * end)
        return ((q @ kt).tril_() @ v + q @ torch.stack(s[:-1], 2)).flatten(2, 3)
    return run


# The delta rule in chunks (WY form), with S the state before a chunk and G as above, 0 without a decay; q and k have length 1:
#
#     (I + tril(β (k kᵀ) e^{Gi-Gj}, -1)) [u, w] = [β v, β e^G k],   v' = u - w S
#     o = (q e^G) S + tril(q kᵀ e^{Gi-Gj}) v',   S ← e^{G at the end} S + (k e^{G at the end - G})ᵀ v'


def delta_parts(q, k, v, beta, g):
    """What of a chunk, or of many at once, does not depend on the state."""
    q, k = F.normalize(q, dim=-1) * q.shape[-1] ** -0.5, F.normalize(k, dim=-1)
    kt = k.transpose(-1, -2)
    inner, scores, wk, end = k @ kt, q @ kt, k, None
    if g is not None:
        sums = g.cumsum(-2)
        gamma = (sums - sums.transpose(-1, -2)).tril_().exp()
        last = sums[..., -1:, :]
        inner, scores, wk, q = inner * gamma, scores * gamma, k * sums.exp(), q * sums.exp()
        kt, end = (k * (last - sums).exp()).transpose(-1, -2), last.exp()
    a = (beta * inner).tril(-1) + torch.eye(k.shape[-2], dtype=k.dtype)
    solved = torch.linalg.solve_triangular(a, torch.cat([beta * v, beta * wk], -1), upper=False, unitriangular=True)
    return q, kt, scores.tril(), solved[..., :v.shape[-1]], solved[..., v.shape[-1]:], end


def delta_step(s, q, kt, scores, u, w, end):
    """The outputs of a chunk and the state after it."""
    new = torch.baddbmm(u, w, s, alpha=-1)
    out = torch.baddbmm(torch.bmm(q, s), scores, new)
    return out, torch.baddbmm(s if end is None else s * end, kt, new)


def delta_loop(c, chunk):
    """A loop over chunks that carries the state."""
    def run(q, k, v, beta, g=None):
        b, h, n, d = q.shape
        parts = [flat(x).split(chunk, 1) for x in (q, k, v, beta) + (() if g is None else (g,))]
        out, s = [], q.new_zeros(b * h, d, v.shape[-1])
        for qc, kc, vc, bc, *gc in zip(*parts):
            o, s = delta_step(s, *delta_parts(qc, kc, vc, bc, gc[0] if gc else None))
            out.append(o)
        return torch.cat(out, 1).unflatten(0, (b, h))
    return run


def delta_batched(c, chunk):
    """All chunks at once, but for what needs the state."""
    def run(q, k, v, beta, g=None):
        b, h, n, d = q.shape
        parts = delta_parts(*(None if x is None else chunked(x, chunk).flatten(0, 1) for x in (q, k, v, beta, g)))
        out, s = [], q.new_zeros(b * h, d, v.shape[-1])
        for one in zip(*(itertools.repeat(None) if x is None else x.unbind(1) for x in parts)):
            o, s = delta_step(s, *one)
            out.append(o)
        return torch.cat(out, 1).unflatten(0, (b, h))
    return run


# The definitions that the forms are held against, in float64.


def define_softmax(c, q, k, v):
    at = torch.arange(c.n)
    gap = at[-q.shape[2]:, None] - at[None, :]
    see = torch.ones_like(gap, dtype=torch.bool)
    if c.causal:
        see &= gap >= 0
    if c.window:
        see &= gap.abs() < c.window
    s = torch.einsum("bhid,bhjd->bhij", q, k) / q.shape[-1] ** 0.5
    return torch.softmax(s.masked_fill(~see, -torch.inf), -1) @ v


def define_linear(c, q, k, v):
    phi = lambda x: torch.where(x > 0, x + 1, x.exp())
    a = torch.einsum("bhid,bhjd->bhij", phi(q), phi(k)).tril()
    return a @ v / (a.sum(-1, keepdim=True) + 1e-6)


def define_gla(c, q, k, v, g):
    s, out = 0, []
    for t in range(c.n):
        s = g[:, :, t, :, None].exp() * s + k[:, :, t, :, None] * v[:, :, t, None, :]
        out.append(torch.einsum("bhd,bhde->bhe", q[:, :, t], s) / q.shape[-1] ** 0.5)
    return torch.stack(out, 2)


def define_delta(c, q, k, v, beta, g=None):
    q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
    s, out = q.new_zeros(*q.shape[:2], q.shape[-1], v.shape[-1]), []
    for t in range(c.n):
        if g is not None:
            s = g[:, :, t, :, None].exp() * s
        kt = k[:, :, t]
        new = beta[:, :, t] * (v[:, :, t] - torch.einsum("bhd,bhde->bhe", kt, s))
        s = s + kt[..., None] * new[:, :, None, :]
        out.append(torch.einsum("bhd,bhde->bhe", q[:, :, t], s) / q.shape[-1] ** 0.5)
    return torch.stack(out, 2)


class Form:
    def __init__(self, make, define, kinds="Prefill Train", gate=None, causal=False, window=False, chunks=(), whole=False, blas=False):
        self.make, self.define, self.kinds = make, define, kinds.split()
        self.gate = gate        # none, or width of a decay: 1 or "dim"; "beta": a rate of writing, "beta decay": with a decay of width 1
        self.causal = causal    # computes causal attention only
        self.window = window    # takes :window=
        self.chunks = chunks    # sizes of which the fastest is taken
        self.whole = whole      # a chunk must divide the length
        self.blas = blas        # threads of the BLAS are tried; otherwise it has one, under the form's own


CHUNKS = 32, 64, 128
FORMS = {
    "torch-sdpa": Form(sdpa, define_softmax, "Prefill Train Decode"),
    "torch-masked": Form(masked, define_softmax, window=True),
    "torch-local": Form(local, define_softmax, causal=True, window=True),
    "torch-local-loop": Form(local_loop, define_softmax, causal=True, window=True, chunks=(128, 256, 512)),
    "torch-linear-loop": Form(linear_loop, define_linear, causal=True, chunks=CHUNKS, blas=True),
    "torch-linear-batched": Form(linear_batched, define_linear, causal=True, chunks=CHUNKS, whole=True, blas=True),
    "torch-gla-loop": Form(gla_loop, define_gla, gate="dim", causal=True, chunks=CHUNKS, blas=True),
    "torch-gla-batched": Form(gla_batched, define_gla, gate="dim", causal=True, chunks=CHUNKS, whole=True, blas=True),
    "torch-gla-scalar-loop": Form(gla_loop, define_gla, gate=1, causal=True, chunks=CHUNKS, blas=True),
    "torch-gla-scalar-batched": Form(gla_batched, define_gla, gate=1, causal=True, chunks=CHUNKS, whole=True, blas=True),
    "torch-delta-loop": Form(delta_loop, define_delta, gate="beta", causal=True, chunks=CHUNKS, blas=True),
    "torch-delta-batched": Form(delta_batched, define_delta, gate="beta", causal=True, chunks=CHUNKS, whole=True, blas=True),
    "torch-gated-delta-loop": Form(delta_loop, define_delta, gate="beta decay", causal=True, chunks=CHUNKS, blas=True),
    "torch-gated-delta-batched": Form(delta_batched, define_delta, gate="beta decay", causal=True, chunks=CHUNKS, whole=True, blas=True),
}


class Cell:
    """What a benchmark's name says: Prefill/mech=torch-sdpa/n=512/heads=8/dim=64/causal=true/kv=8/batch=1."""

    def __init__(self, name):
        try:
            self.name = name
            self.kind, *parts = name.split("/")
            keys = dict(p.split("=", 1) for p in parts)
            self.mech = keys["mech"]
            self.n, self.heads, self.dim, kv, self.batch = (int(keys[k]) for k in ("n", "heads", "dim", "kv", "batch"))
            self.causal = {"true": True, "false": False}[keys["causal"]]
            self.form, _, option = self.mech.partition(":")
            key, _, value = option.partition("=")
            self.window = int(value) if option else 0
        except (KeyError, ValueError):
            raise Bad(f"cell {name!r}: want Kind/mech=…/n=…/heads=…/dim=…/causal=…/kv=…/batch=…") from None
        if self.form not in FORMS:
            raise Bad(f"unknown form {self.form!r}: want one of {', '.join(FORMS)}")
        f = FORMS[self.form]
        if self.kind not in f.kinds:
            raise Bad(f"{name}: kind {self.kind}: want one of {', '.join(f.kinds)}")
        if min(self.n, self.heads, self.dim, self.batch) < 1:
            raise Bad(f"{name}: want at least 1 of each")
        if kv != self.heads:
            raise Bad(f"{name}: kv={kv}: want as many as heads")
        if f.causal and not self.causal:
            raise Bad(f"{name}: causal=false: want true")
        if f.window != (key == "window" and self.window > 0):
            raise Bad(f"{name}: want {self.form}" + (":window=N, N at least 1" if f.window else " without options"))
        if self.form == "torch-local" and self.n % self.window:
            raise Bad(f"{name}: n={self.n}: want a multiple of the window")
        self.chunks = [x for x in f.chunks if x <= self.n and (not f.whole or self.n % x == 0)] or [self.n] if f.chunks else [0]

    def inputs(self, seed):
        """[batch, time, heads, width] in memory, as a projection leaves it; a cache lies head-major."""
        r = torch.Generator().manual_seed(seed)

        def draw(time, width):
            return torch.randn(self.batch, time, self.heads, width, generator=r).transpose(1, 2)
        decode = self.kind == "Decode"
        x = [draw(1 if decode else self.n, self.dim), draw(self.n, self.dim), draw(self.n, self.dim)]
        if decode:
            x[1:] = [y.contiguous() for y in x[1:]]
        gate = FORMS[self.form].gate
        if str(gate).startswith("beta"):
            x.append(torch.sigmoid(draw(self.n, 1)))
            gate = 1 if gate == "beta decay" else None
        if gate:
            x.append(F.logsigmoid(draw(self.n, self.dim if gate == "dim" else gate)) / 16)
        return x

    def runner(self, f, inputs):
        """A function of nothing that runs f once, with its gradient when training."""
        if self.kind != "Train":
            def run():
                with torch.inference_mode():
                    return [f(*inputs)]
            return run
        inputs = [x.detach().requires_grad_(True) for x in inputs]
        grad = torch.randn(self.batch, self.n, self.heads, self.dim, generator=torch.Generator().manual_seed(0))
        grad = grad.transpose(1, 2).to(inputs[0].dtype)

        def run():
            out = f(*inputs)
            return [out.detach(), *torch.autograd.grad(out, inputs, grad)]
        return run


def check():
    """Holds every form against its definition, at a length that no chunk divides where the form allows it. Exits when one is wrong."""
    for name, f in FORMS.items():
        for kind, causal, n in itertools.product(f.kinds, (True, False), (96, 90)):
            option = ":window=24" if f.window else ""
            try:
                c = Cell(f"{kind}/mech={name}{option}/n={n}/heads=3/dim=8/causal={str(causal).lower()}/kv=3/batch=2")
            except Bad:
                continue
            x = c.inputs(1)
            want = c.runner(lambda *a: f.define(c, *a), [y.double() for y in x])()
            for chunk in (32, 48, 96) if f.whole else (32, 40) if f.chunks else (0,):
                if f.whole and n % chunk:
                    continue
                got = c.runner(f.make(c, chunk), x)()
                for i, (a, b) in enumerate(zip(got, want)):
                    err = ((a - b).norm() / b.norm()).item()
                    if a.shape != b.shape or not err < 1e-5:
                        what = f"gradient of {('q', 'k', 'v', 'gate', 'decay')[i - 1]}" if i else "output"
                        sys.exit(f"peers.py: {c.name} chunk={chunk}: {what} is {err:.3g} from its definition: want less than 1e-5")


def blas_setter():
    """OpenBLAS's own switch of threads, where torch stands on it. MKL follows torch.set_num_threads."""
    try:
        with open("/proc/self/maps") as f:
            libs = {line.split()[-1] for line in f if "blas" in line and ".so" in line}
    except OSError:
        libs = ()
    for path in sorted(libs):
        lib = ctypes.CDLL(path)
        if hasattr(lib, "openblas_set_num_threads") and hasattr(lib, "openblas_get_config"):
            lib.openblas_get_config.restype = ctypes.c_char_p
            return lib.openblas_set_num_threads, lib.openblas_get_config().decode().strip()
    return lambda n: None, ""


SET_BLAS, BLAS = blas_setter()


def seconds(run, least):
    """Mean seconds of a run, after one to warm up."""
    run()
    runs, start = 0, time.perf_counter()
    while runs == 0 or time.perf_counter() - start < least:
        run()
        runs += 1
    return (time.perf_counter() - start) / runs, runs


CHOSEN = {}


def choose(c):
    """The chunk and the BLAS threads at which a form is fastest, tried at no more than 4096 tokens, as the forms
    that have a choice take time in proportion to the length."""
    f = FORMS[c.form]
    blas = sorted({1, ARGS.threads}) if f.blas else [1]
    options = list(itertools.product(c.chunks, blas))
    if len(options) == 1:
        return options[0]
    key = c.kind, c.mech, c.heads, c.dim, c.batch, tuple(c.chunks)
    if key not in CHOSEN:
        short = Cell(c.name)
        if f.chunks and c.n > 4096:
            short.n = 4096
        x, best = short.inputs(1), None
        for chunk, threads in options:
            SET_BLAS(threads)
            t = seconds(short.runner(f.make(short, chunk), x), 0.1)[0]
            if best is None or t < best[0]:
                best = t, (chunk, threads)
        CHOSEN[key] = best[1]
        print(f"# {c.name} on {ARGS.threads} threads: chunk={best[1][0]} blas-threads={best[1][1]} is the fastest of {len(options)}")
    return CHOSEN[key]


def measure(c, seed):
    chunk, threads = choose(c)
    SET_BLAS(threads)
    sec, runs = seconds(c.runner(FORMS[c.form].make(c, chunk), c.inputs(seed)), ARGS.seconds)
    suffix = f"-{ARGS.threads}" if ARGS.threads > 1 else ""
    tokens = c.batch * (1 if c.kind == "Decode" else c.n)
    print(f"Benchmark{c.name}{suffix} {runs} {sec:.9f} sec/op {tokens / sec:.6g} tok/s {seed} seed", flush=True)


def header():
    """The lines that say where the figures come from; a slow build of torch is an error, as it would be no peer."""
    level = torch.backends.cpu.get_cpu_capability() if hasattr(torch.backends, "cpu") else "unknown"
    model, flags = "", ""
    try:
        with open("/proc/cpuinfo") as f:
            for line in f:
                key, _, value = line.partition(":")
                model = model or (value.strip() if key.strip() == "model name" else "")
                flags = flags or (value if key.strip() == "flags" else "")
    except OSError:
        if platform.system() == "Linux":
            sys.exit("peers.py: /proc is not mounted here, and torch takes the processor for one without AVX: want it mounted (see README.md)")
    if "avx2" in flags and "AVX" not in level.replace("NO AVX", ""):
        sys.exit(f"peers.py: torch computes at level {level!r} on a processor that has AVX2: want a build that uses it")
    lines = {"toolchain": f"torch-{torch.__version__}", "torch-kernel": level, "torch-blas": BLAS, "workers": ARGS.threads, "cpu": model}
    for key, value in lines.items():
        if value:
            print(f"{key}: {value}")
    print("Unit sec/op better=lower\nUnit tok/s better=higher", flush=True)


def names():
    """The grid of the flags."""
    for kind in ARGS.kind.split(","):
        for mech, dim, n, causal in itertools.product(*(x.split(",") for x in (ARGS.mechs, ARGS.dim, ARGS.lengths, ARGS.causal))):
            yield f"{kind}/mech={mech}/n={n}/heads={ARGS.heads}/dim={dim}/causal={causal}/kv={ARGS.heads}/batch={ARGS.batch}"


def main():
    torch.set_num_threads(ARGS.threads)
    SET_BLAS(1)
    header()
    check()
    if ARGS.check:
        print(f"# {len(FORMS)} forms agree with their definitions")
    elif ARGS.serve:
        print("# ready", flush=True)
        for line in sys.stdin:
            name, seed = line.split()
            measure(Cell(name), int(seed))
            print("# done", flush=True)
    else:
        cells = [Cell(name) for name in names()]
        for seed in range(ARGS.seed, ARGS.seed + ARGS.count):
            for c in cells:
                measure(c, seed)


if __name__ == "__main__":
    try:
        main()
    except Bad as e:
        sys.exit(f"peers.py: {e}")
