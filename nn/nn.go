// Package nn holds the layers that models are built from: projections, embeddings, norms, MLPs and the attention layer, which
// builds itself from what a mechanism declares. Values are [tokens, width], the tokens of a batch row by row.
package nn

import (
	"hash/fnv"
	"math"
	"math/rand/v2"

	"attnbench/attn"
	"attnbench/autograd"
)

// Std returns the standard deviation that a projection of width in, or an embedding of that width, starts from: 1/√(3·in), the variance
// of PyTorch's default. At GPT-2's width of 768 that is its 0.02 (Radford et al. 2019); a fixed 0.02 leaves narrow layers so close to 0
// that attention takes a long time to break its symmetry.
func Std(in int) float64 { return 1 / math.Sqrt(3*float64(in)) }

// Eps keeps norms finite on rows of zeros.
const Eps = 1e-6

// Builder makes the parameters of a model. Each draws from a random stream of its own, named by the seed and its name, so
// that two models which differ in one layer start equal in all others.
type Builder struct {
	Seed   uint64
	Params []*autograd.Param // in the order in which they were made

	shared map[string]*autograd.Param
}

// Init fills a fresh tensor.
type Init func(x []float32, r *rand.Rand)

// Normal returns an Init that draws from a normal distribution of mean 0.
func Normal(std float64) Init {
	return func(x []float32, r *rand.Rand) {
		for i := range x {
			x[i] = float32(std * r.NormFloat64())
		}
	}
}

// Uniform returns an Init that draws evenly from -most to most.
func Uniform(most float64) Init {
	return func(x []float32, r *rand.Rand) {
		for i := range x {
			x[i] = float32(most * (2*r.Float64() - 1))
		}
	}
}

// Const returns an Init that sets every element to v.
func Const(v float32) Init {
	return func(x []float32, _ *rand.Rand) {
		for i := range x {
			x[i] = v
		}
	}
}

// Rand returns the random stream of a name.
func (b *Builder) Rand(name string) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(name))
	return rand.New(rand.NewPCG(b.Seed, h.Sum64()))
}

// Param makes a parameter; a nil init leaves zeros.
func (b *Builder) Param(name string, decay bool, init Init, shape ...int) *autograd.Param {
	p := autograd.NewParam(name, decay, shape...)
	if init != nil {
		init(p.Data, b.Rand(name))
	}
	b.Params = append(b.Params, p)
	return p
}

// Shared returns the parameter that was made by this name, or makes it: layers that ask for the same name have one in common.
func (b *Builder) Shared(name string, decay bool, init Init, shape ...int) *autograd.Param {
	p := b.shared[name]
	if p == nil {
		p = b.Param(name, decay, init, shape...)
		if b.shared == nil {
			b.shared = map[string]*autograd.Param{}
		}
		b.shared[name] = p
	}
	return p
}

// Count returns the number of learned numbers in params; a tensor that appears twice counts once.
func Count(params []*autograd.Param) int {
	seen, n := map[*autograd.Param]bool{}, 0
	for _, p := range params {
		if !seen[p] {
			seen[p] = true
			n += len(p.Data)
		}
	}
	return n
}

// Linear is a projection x·W + b.
type Linear struct {
	W *autograd.Param // [in, out]
	B *autograd.Param // [out], nil for none
}

// NewLinear makes a projection whose weights start from a normal distribution of scale·Std(in), and whose bias, if any, is 0.
func NewLinear(b *Builder, name string, in, out int, bias bool, scale float64) Linear {
	l := Linear{W: b.Param(name+".weight", true, Normal(scale*Std(in)), in, out)}
	if bias {
		l.B = b.Param(name+".bias", false, nil, out)
	}
	return l
}

// Forward returns act(x·W + b + add); add may be autograd.None.
func (l Linear) Forward(t *autograd.Tape, x, add autograd.Var, act autograd.Activation) autograd.Var {
	return t.Linear(x, t.Param(l.W), optional(t, l.B), add, act)
}

func optional(t *autograd.Tape, p *autograd.Param) autograd.Var {
	if p == nil {
		return autograd.None
	}
	return t.Param(p)
}

// Embedding is a table of one row a token.
type Embedding struct{ Table *autograd.Param } // [vocabulary, width]

// NewEmbedding makes a table that starts from a normal distribution of scale·Std(width). Weight decay does not apply to it.
func NewEmbedding(b *Builder, name string, vocab, width int, scale float64) Embedding {
	return Embedding{b.Param(name+".weight", false, Normal(scale*Std(width)), vocab, width)}
}

// Forward looks up the rows of tokens, which must not change until the tape's Reset.
func (e Embedding) Forward(t *autograd.Tape, tokens []int32) autograd.Var {
	return t.Gather(t.Param(e.Table), tokens)
}

// Norm is an RMSNorm or a LayerNorm over the width of its input.
type Norm struct {
	Gain, Bias *autograd.Param // [width]; a LayerNorm has both
	Eps        float32         // 0 means Eps
}

// NewRMSNorm makes an RMSNorm with a gain of 1.
func NewRMSNorm(b *Builder, name string, width int) Norm {
	return Norm{Gain: b.Param(name+".gain", false, Const(1), width)}
}

// NewLayerNorm makes a LayerNorm with a gain of 1 and a bias of 0.
func NewLayerNorm(b *Builder, name string, width int) Norm {
	n := NewRMSNorm(b, name, width)
	n.Bias = b.Param(name+".bias", false, nil, width)
	return n
}

// Forward returns the normalised x.
func (n Norm) Forward(t *autograd.Tape, x autograd.Var) autograd.Var {
	eps := n.Eps
	if eps == 0 {
		eps = Eps
	}
	if n.Bias == nil {
		return t.RMSNorm(x, t.Param(n.Gain), len(n.Gain.Data), eps)
	}
	return t.LayerNorm(x, t.Param(n.Gain), t.Param(n.Bias), eps)
}

// MLP is the feed-forward half of a layer: down(act(up(x))), or SwiGLU, down(silu(gate(x))∘up(x)).
type MLP struct {
	gated    bool
	act      autograd.Activation
	up, down Linear // a gated MLP's up is [in, gate | up]
}

// NewMLP makes an MLP of the given inner width, with biases; outScale is that of the projection back onto the residual stream.
func NewMLP(b *Builder, name string, dim, width int, act autograd.Activation, outScale float64) MLP {
	return MLP{act: act, up: NewLinear(b, name+".up", dim, width, true, 1), down: NewLinear(b, name+".down", width, dim, true, outScale)}
}

// NewGELU makes an MLP whose activation is GELU in its tanh form.
func NewGELU(b *Builder, name string, dim, width int, outScale float64) MLP {
	return NewMLP(b, name, dim, width, autograd.GELU, outScale)
}

// NewSwiGLU makes a gated MLP (Shazeer 2020, arXiv:2002.05202) of the given inner width, without biases.
func NewSwiGLU(b *Builder, name string, dim, width int, outScale float64) MLP {
	return MLP{gated: true, up: NewLinear(b, name+".up", dim, 2*width, false, 1), down: NewLinear(b, name+".down", width, dim, false, outScale)}
}

// Forward returns add + mlp(x).
func (m MLP) Forward(t *autograd.Tape, x, add autograd.Var) autograd.Var {
	var h autograd.Var
	if m.gated {
		h = t.SwiGLU(m.up.Forward(t, x, autograd.None, autograd.Identity))
	} else {
		h = m.up.Forward(t, x, autograd.None, m.act)
	}
	return m.down.Forward(t, h, add, autograd.Identity)
}

// Weights returns the multiply-adds of the MLP a token.
func (m MLP) Weights() int64 { return int64(len(m.up.W.Data) + len(m.down.W.Data)) }

// ShortConv is a causal depthwise convolution.
type ShortConv struct {
	W, B *autograd.Param // [width, channels]; [channels] or nil
}

// NewShortConv makes a convolution that starts evenly spread, as the recurrent models that use it do.
func NewShortConv(b *Builder, name string, width, channels int, bias bool) ShortConv {
	c := ShortConv{W: b.Param(name+".weight", false, Uniform(1/math.Sqrt(float64(width))), width, channels)}
	if bias {
		c.B = b.Param(name+".bias", false, nil, channels)
	}
	return c
}

// Forward convolves x; back is the layout's.
func (c ShortConv) Forward(t *autograd.Tape, x autograd.Var, back []int32) autograd.Var {
	return t.ShortConv(x, t.Param(c.W), optional(t, c.B), back)
}

// Rotary is a rotary embedding with its tables, shared by the layers of a model.
type Rotary struct {
	Rope   attn.Rope
	tables map[int]*autograd.RopeTable // by width of a head
}

// NewRotary returns the rotary embedding r.
func NewRotary(r attn.Rope) *Rotary { return &Rotary{r, map[int]*autograd.RopeTable{}} }

// table returns the table of heads of one width. Layers ask for it while they are built.
func (r *Rotary) table(width int) *autograd.RopeTable {
	if r.tables[width] == nil {
		r.tables[width] = &autograd.RopeTable{Rope: r.Rope, Width: width}
	}
	return r.tables[width]
}
