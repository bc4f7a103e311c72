package model

import (
	"fmt"
	"math"
	"slices"

	"attnbench/attn"
	"attnbench/autograd"
	"attnbench/nn"
)

// Config describes a decoder language model.
type Config struct {
	Vocab     int    // tokens are 0 to Vocab-1
	Dim       int    // width of the residual stream
	Layers    int    // attention, and MLP unless MLP is none
	Heads     int    // query heads
	KVHeads   int    // key/value heads, a divisor of Heads; 0 means Heads
	KeyDim    int    // width of a query and key head; 0 means Dim/Heads
	ValueDim  int    // width of a value head; 0 means Dim/Heads
	MLP       string // gelu (its tanh form), gelu-erf, swiglu or none
	MLPWidth  int    // inner width; 0 means none
	Attention string // registry spelling, or a layer pattern a|b
	Positions string // none, rope or learned
	ShortConv int    // width of a short convolution on q, k and v in every layer that declares none; 0 for none
	Tied      bool   // the output projection is the embedding
	MaxLen    int    // longest sequence, a bound only under learned positions
	Seed      uint64 // of the initialisation

	Norm       string  `zero:"omit"` // rms or layer; empty for rms
	NormEps    float64 `zero:"omit"` // added to a norm's mean square; 0 means nn.Eps
	Bias       bool    `zero:"omit"` // on the projections of the attention
	RopeBase   float64 `zero:"omit"` // 0 means 10000
	RopePairs  string  `zero:"omit"` // halves or neighbours, see attn.Pairing; empty for halves
	Bottleneck bool    `zero:"omit"` // answers are made of the last token's output alone, see bottleneck

	// In training only:
	Dropout   float64 `zero:"omit"` // of embeddings and of what each sublayer adds
	Skip      float64 `zero:"omit"` // stochastic depth: probability that the last layer is left out, those before it in proportion
	Smoothing float64 `zero:"omit"` // of labels
	Recompute bool    `zero:"omit"` // keep only each layer's input for the backward pass, and compute the layer again: the same bits
}

func (c *Config) fill() error {
	for _, d := range []struct {
		name     string
		got, min int
	}{
		{"vocab", c.Vocab, 1}, {"dim", c.Dim, 1}, {"layers", c.Layers, 1}, {"heads", c.Heads, 1}, {"kv heads", c.KVHeads, 0}, {"key dim", c.KeyDim, 0},
		{"value dim", c.ValueDim, 0}, {"mlp width", c.MLPWidth, 0}, {"short convolution", c.ShortConv, 0}, {"max length", c.MaxLen, 1},
	} {
		if d.got < d.min {
			return fmt.Errorf("%s is %d: want at least %d", d.name, d.got, d.min)
		}
	}
	if most := 1 << 12; c.ShortConv > most {
		return fmt.Errorf("short convolution is %d: want at most %d", c.ShortConv, most)
	}
	if n := c.Weights(); n >= 1<<40 {
		return fmt.Errorf("dim %d, mlp width %d, layers %d, vocab %d: about %.3g weights: want fewer than 2^40", c.Dim, c.MLPWidth, c.Layers, c.Vocab, n)
	}
	if c.KVHeads == 0 {
		c.KVHeads = c.Heads
	}
	if c.Heads%c.KVHeads != 0 {
		return fmt.Errorf("%d heads over %d kv heads: want a multiple", c.Heads, c.KVHeads)
	}
	if (c.KeyDim == 0 || c.ValueDim == 0) && c.Dim%c.Heads != 0 {
		return fmt.Errorf("dim %d over %d heads: want a multiple, or key dim and value dim", c.Dim, c.Heads)
	}
	if c.KeyDim == 0 {
		c.KeyDim = c.Dim / c.Heads
	}
	if c.ValueDim == 0 {
		c.ValueDim = c.Dim / c.Heads
	}
	if c.Positions == "" {
		c.Positions = "none"
	}
	if !slices.Contains([]string{"none", "rope", "learned"}, c.Positions) {
		return fmt.Errorf("positions %q: want none, rope or learned", c.Positions)
	}
	if c.MLP == "" || c.MLPWidth == 0 {
		c.MLP, c.MLPWidth = "none", 0
	}
	for _, d := range []struct {
		name, got string
		want      []string
	}{
		{"mlp", c.MLP, []string{"gelu", "gelu-erf", "swiglu", "none"}}, {"norm", c.Norm, []string{"", "rms", "layer"}},
		{"rotary pairs", c.RopePairs, []string{"", "halves", "neighbours"}},
	} {
		if !slices.Contains(d.want, d.got) {
			return fmt.Errorf("%s %q: want one of %q", d.name, d.got, d.want)
		}
	}
	if !(c.NormEps >= 0 && c.NormEps < 1) {
		return fmt.Errorf("norm epsilon %v: want 0 to below 1", c.NormEps)
	}
	for _, d := range []struct {
		name string
		got  float64
	}{{"dropout", c.Dropout}, {"stochastic depth", c.Skip}, {"label smoothing", c.Smoothing}} {
		if !(d.got >= 0 && d.got < 1) {
			return fmt.Errorf("%s %v: want 0 to below 1", d.name, d.got)
		}
	}
	if !(c.RopeBase >= 0) || math.IsInf(c.RopeBase, 0) {
		return fmt.Errorf("rotary base %v: want a finite number of at least 0", c.RopeBase)
	}
	return nil
}

// Weights returns about how many weights the model has, before anything is made: what is sure to be there.
func (c *Config) Weights() float64 {
	d := float64(c.Dim)
	return float64(c.Layers)*(1+2*d*d+2*d*float64(c.MLPWidth)) + d*float64(c.Vocab)
}

// rope is the rotation of queries and keys.
func (c *Config) rope() attn.Rope {
	r := attn.Rope{Base: c.RopeBase}
	if c.RopePairs == "neighbours" {
		r.Pairing = attn.Neighbours
	}
	return r
}

// norm makes a norm over the residual stream.
func (c *Config) norm(b *nn.Builder, name string) nn.Norm {
	n := nn.Norm{}
	if c.Norm == "layer" {
		n = nn.NewLayerNorm(b, name, c.Dim)
	} else {
		n = nn.NewRMSNorm(b, name, c.Dim)
	}
	n.Eps = float32(c.NormEps)
	return n
}

// mlp makes the second half of a layer.
func (c *Config) mlp(b *nn.Builder, name string, outScale float64) nn.MLP {
	switch c.MLP {
	case "gelu":
		return nn.NewGELU(b, name, c.Dim, c.MLPWidth, outScale)
	case "gelu-erf":
		return nn.NewMLP(b, name, c.Dim, c.MLPWidth, autograd.GELUErf, outScale)
	}
	return nn.NewSwiGLU(b, name, c.Dim, c.MLPWidth, outScale)
}
