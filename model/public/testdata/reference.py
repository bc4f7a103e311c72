"""Writes the parity fixtures: tiny models with random weights in their public formats, and the logits that PyTorch computes for
them in float64, with its own layer norm, GELU and scaled dot product attention. Nothing of attnbench is used.

    python3 reference.py DIR      (PyTorch 2.6.0, NumPy 2.2.4 of Debian 13)

Weights are rounded to the type in which the file holds them before the logits are computed.
"""
import json, os, struct, sys

import numpy as np
import torch
import torch.nn.functional as F

OUT = sys.argv[1]
SIZE = {"F32": 4, "F16": 2, "BF16": 2}


class Weights:
    """Draws named tensors and remembers them in the order in which they are asked for."""

    def __init__(self, seed, dtype):
        self.g = torch.Generator().manual_seed(seed)
        self.dtype, self.tensors = dtype, {}

    def draw(self, name, *shape, std=0.3, mean=0.0):
        kind = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[self.dtype]
        x = (mean + std * torch.randn(*shape, generator=self.g, dtype=torch.float64)).to(kind)
        self.tensors[name] = x
        return x.double()

    def raw(self, x):
        x = x.contiguous()
        return (x.view(torch.int16) if x.dtype == torch.bfloat16 else x).numpy().tobytes()

    def save(self, path, extra=()):
        """extra: (name, dtype, shape, bytes) that a loader has to know and leave alone."""
        entries = [(n, self.dtype, list(x.shape), self.raw(x)) for n, x in self.tensors.items()] + list(extra)
        header, at = {"__metadata__": {"format": "pt"}}, 0
        for name, dtype, shape, data in entries:
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
            at += len(data)
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with open(path, "wb") as f:
            f.write(struct.pack("<Q", len(text)) + text)
            for e in entries:
                f.write(e[3])


def save(name, weights, config, tokens, logits, extra=(), **more):
    os.makedirs(os.path.join(OUT, name), exist_ok=True)
    if weights:
        weights.save(os.path.join(OUT, name, "model.safetensors"), extra)
        with open(os.path.join(OUT, name, "config.json"), "w") as f:
            json.dump(config, f, indent=1)
            f.write("\n")
    with open(os.path.join(OUT, name, "logits.json"), "w") as f:
        rows = logits.reshape(-1, logits.shape[-1]).tolist()
        f.write(json.dumps({"tokens": tokens, **more})[:-1] + ', "logits": [\n')
        f.write(",\n".join("[" + ",".join("%.7g" % x for x in r) + "]" for r in rows))
        f.write("\n]}\n")


def heads(x, n):
    return x.unflatten(-1, (n, -1)).transpose(-3, -2)


def gpt2():
    d, h, layers, vocab, ctx, inner = 24, 3, 2, 37, 20, 40
    w = Weights(1, "F32")
    tokens = [3, 1, 4, 1, 5, 9, 2, 6, 36, 0, 35, 8, 9, 7, 9, 30, 2, 3, 8, 4]
    x = w.draw("wte.weight", vocab, d)[tokens] + w.draw("wpe.weight", ctx, d)[: len(tokens)]

    def norm(name, x):
        return F.layer_norm(x, (d,), w.draw(name + ".weight", d, mean=1), w.draw(name + ".bias", d), 1e-3)

    def conv(name, x, out):  # Conv1D: weights [in, out]
        n = x.shape[-1]
        return x @ w.draw(name + ".weight", n, out) + w.draw(name + ".bias", out)

    for i in range(layers):
        p = f"h.{i}."
        q, k, v = (heads(y, h) for y in conv(p + "attn.c_attn", norm(p + "ln_1", x), 3 * d).split(d, dim=-1))
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + conv(p + "attn.c_proj", a.transpose(-3, -2).flatten(-2), d)
        m = F.gelu(conv(p + "mlp.c_fc", norm(p + "ln_2", x), inner), approximate="tanh")
        x = x + conv(p + "mlp.c_proj", m, d)
    logits = norm("ln_f", x) @ w.tensors["wte.weight"].double().T
    mask = np.tril(np.ones((1, 1, ctx, ctx), np.uint8)).tobytes()
    save("gpt2", w, {
        "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "activation_function": "gelu_new", "n_embd": d, "n_head": h, "n_layer": layers,
        "n_inner": inner, "n_positions": ctx, "n_ctx": ctx, "vocab_size": vocab, "layer_norm_epsilon": 1e-3, "bos_token_id": 36, "eos_token_id": 36,
        "resid_pdrop": 0.1, "scale_attn_weights": True,
    }, tokens, logits, [(f"h.{i}.attn.bias", "BOOL", [1, 1, ctx, ctx], mask) for i in range(layers)])


def half(x, base):  # pairs (p, p + d/2)
    n, d = x.shape[-2], x.shape[-1]
    angle = torch.arange(n, dtype=torch.float64)[:, None] / base ** (torch.arange(0, d, 2, dtype=torch.float64) / d)
    angle = torch.cat([angle, angle], -1)
    turned = torch.cat([-x[..., d // 2:], x[..., : d // 2]], -1)
    return x * angle.cos() + turned * angle.sin()


def neighbours(x, base):  # pairs (2p, 2p+1), as complex numbers
    n, d = x.shape[-2], x.shape[-1]
    angle = torch.arange(n, dtype=torch.float64)[:, None] / base ** (torch.arange(0, d, 2, dtype=torch.float64) / d)
    z = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(z * torch.polar(torch.ones_like(angle), angle)).flatten(-2)


def llama(w, tokens, d, h, kv, width, inner, layers, vocab, base, eps, bias, tied, rotate):
    x = w.draw("model.embed_tokens.weight", vocab, d)[tokens]

    def norm(name, x):
        return F.rms_norm(x, (d,), w.draw(name + ".weight", d, mean=1), eps)

    def linear(name, x, out, bias=False):  # weights [out, in]
        return F.linear(x, w.draw(name + ".weight", out, x.shape[-1]), w.draw(name + ".bias", out) if bias else None)

    for i in range(layers):
        p = f"model.layers.{i}."
        y = norm(p + "input_layernorm", x)
        q, k, v = (heads(linear(p + f"self_attn.{n}_proj", y, c * width, bias), c) for n, c in (("q", h), ("k", kv), ("v", kv)))
        a = F.scaled_dot_product_attention(rotate(q, base), rotate(k, base), v, is_causal=True, enable_gqa=True)
        x = x + linear(p + "self_attn.o_proj", a.transpose(-3, -2).flatten(-2), d, bias)
        y = norm(p + "post_attention_layernorm", x)
        x = x + linear(p + "mlp.down_proj", F.silu(linear(p + "mlp.gate_proj", y, inner)) * linear(p + "mlp.up_proj", y, inner), d)
    y = norm("model.norm", x)
    return y @ w.tensors["model.embed_tokens.weight"].double().T if tied else linear("lm_head", y, vocab)


def llama_half():
    d, h, kv, width, inner, layers, vocab = 24, 4, 2, 10, 36, 2, 37
    w = Weights(2, "BF16")
    tokens = [1, 17, 4, 1, 5, 9, 2, 6, 36, 0, 35, 8, 9, 7, 9, 30, 2, 3, 8]
    logits = llama(w, tokens, d, h, kv, width, inner, layers, vocab, 500.0, 1e-3, True, False, half)
    save("llama", w, {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": d, "intermediate_size": inner,
        "num_hidden_layers": layers, "num_attention_heads": h, "num_key_value_heads": kv, "head_dim": width, "vocab_size": vocab,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-3, "rope_theta": 500.0, "rope_scaling": None, "tie_word_embeddings": False,
        "attention_bias": True, "bos_token_id": 1, "torch_dtype": "bfloat16",
    }, tokens, logits)


def llama_neighbours():
    """llama2.c's legacy format, with a classifier of its own (a negative vocabulary)."""
    d, h, kv, inner, layers, vocab, ctx = 24, 3, 1, 36, 2, 37, 32
    w = Weights(3, "F32")
    tokens = [1, 17, 4, 1, 5, 9, 2, 6, 36, 0, 35, 8, 9, 7, 9, 30, 2, 3, 8]
    logits = llama(w, tokens, d, h, kv, d // h, inner, layers, vocab, 10000.0, 1e-5, False, False, neighbours)
    save("llama2c", None, None, tokens, logits)
    t, each = w.tensors, lambda name: [w.raw(w.tensors[f"model.layers.{i}.{name}.weight"]) for i in range(layers)]
    parts = [struct.pack("<7i", d, inner, layers, h, kv, -vocab, ctx), w.raw(t["model.embed_tokens.weight"])]
    for name in ("input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "post_attention_layernorm",
                 "mlp.gate_proj", "mlp.down_proj", "mlp.up_proj"):
        parts += each(name)
    angle = np.arange(ctx)[:, None] / 10000.0 ** (np.arange(0, d // h, 2) / (d // h))
    parts += [w.raw(t["model.norm.weight"]), np.cos(angle).astype("<f4").tobytes(), np.sin(angle).astype("<f4").tobytes(), w.raw(t["lm_head.weight"])]
    with open(os.path.join(OUT, "llama2c", "model.bin"), "wb") as f:
        f.write(b"".join(parts))


def bert():
    d, h, layers, vocab, ctx, inner = 24, 3, 2, 37, 20, 40
    w = Weights(4, "F16")
    lengths = [13, 9]  # the second row is padded with 0, which no token may attend to
    tokens = [[2, 1, 4, 1, 5, 9, 3, 6, 36, 20, 35, 8, 3], [2, 7, 30, 4, 3, 11, 12, 13, 3, 0, 0, 0, 0]]
    types = [[0] * 7 + [1] * 6, [0] * 5 + [1] * 4 + [0] * 4]
    ids, kinds = torch.tensor(tokens), torch.tensor(types)
    p = "bert.embeddings."

    def norm(name, x):
        return F.layer_norm(x, (d,), w.draw(name + ".gamma", d, mean=1), w.draw(name + ".beta", d), 1e-3)

    def linear(name, x, out):
        return F.linear(x, w.draw(name + ".weight", out, x.shape[-1]), w.draw(name + ".bias", out))

    x = w.draw(p + "word_embeddings.weight", vocab, d)[ids] + w.draw(p + "position_embeddings.weight", ctx, d)[: ids.shape[1]]
    x = norm(p + "LayerNorm", x + w.draw(p + "token_type_embeddings.weight", 2, d)[kinds])
    seen = (torch.arange(ids.shape[1])[None] < torch.tensor(lengths)[:, None])[:, None, None]
    for i in range(layers):
        p = f"bert.encoder.layer.{i}."
        q, k, v = (heads(linear(p + f"attention.self.{n}", x, d), h) for n in ("query", "key", "value"))
        a = F.scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(-3, -2).flatten(-2)
        x = norm(p + "attention.output.LayerNorm", x + linear(p + "attention.output.dense", a, d))
        m = linear(p + "output.dense", F.gelu(linear(p + "intermediate.dense", x, inner)), d)
        x = norm(p + "output.LayerNorm", x + m)
    w.draw("bert.pooler.dense.weight", d, d), w.draw("bert.pooler.dense.bias", d)
    p = "cls.predictions."
    y = norm(p + "transform.LayerNorm", F.gelu(linear(p + "transform.dense", x, d)))
    logits = y @ w.tensors["bert.embeddings.word_embeddings.weight"].double().T + w.draw(p + "bias", vocab)
    w.draw("cls.seq_relationship.weight", 2, d), w.draw("cls.seq_relationship.bias", 2)
    logits[1, lengths[1]:] = 0
    save("bert", w, {
        "architectures": ["BertForMaskedLM"], "model_type": "bert", "hidden_act": "gelu", "hidden_size": d, "intermediate_size": inner,
        "num_hidden_layers": layers, "num_attention_heads": h, "vocab_size": vocab, "max_position_embeddings": ctx, "type_vocab_size": 2,
        "layer_norm_eps": 1e-3, "pad_token_id": 0, "position_embedding_type": "absolute", "hidden_dropout_prob": 0.1,
    }, sum(tokens, []), logits, [("bert.embeddings.position_ids", "I64", [1, ctx], np.arange(ctx, dtype="<i8").tobytes())], types=sum(types, []), lengths=lengths)


gpt2(), llama_half(), llama_neighbours(), bert()
