package model

import (
	"errors"
	"math"

	"attnbench/autograd"
	"attnbench/nn"
)

// bottleneck makes all answers from the output of a row's last token: with the position of each answer added it passes through two layers that
// do not widen. What the row said must fit into that one vector.
//
// Poli et al. 2024, MAD (arXiv:2403.17844), the decoder of its auto-encoder: norm, linear, GELU, norm, linear, GELU, norm.
type bottleneck struct {
	norms     [2]nn.Norm
	linears   [2]nn.Linear
	last      nn.Norm
	positions []float32 // [max length, dim]
}

func newBottleneck(b *nn.Builder, c Config) *bottleneck {
	x := &bottleneck{positions: sinusoids(c.MaxLen, c.Dim)}
	for i, name := range []string{"decoder.0", "decoder.1"} {
		x.norms[i] = c.norm(b, name+".norm")
		x.linears[i] = nn.NewLinear(b, name+".linear", c.Dim, c.Dim, true, 1)
	}
	x.last = c.norm(b, "decoder.norm")
	return x
}

// sinusoids returns [n, dim]: of each position the sines, and then the cosines, of its product with dim/2 frequencies from 1 down to 1/10000.
func sinusoids(n, dim int) []float32 {
	table, half := make([]float32, n*dim), dim/2
	for p := range n {
		for i := range half {
			angle := float64(p) / math.Pow(10000, float64(i)/float64(max(1, half-1)))
			table[p*dim+i], table[p*dim+half+i] = float32(math.Sin(angle)), float32(math.Cos(angle))
		}
	}
	return table
}

// forward returns a row of hidden for each label of labels, which are [rows, length] as hidden is, and the labels.
func (x *bottleneck) forward(t *autograd.Tape, hidden autograd.Var, labels []int32, length int) (autograd.Var, []int32) {
	n := 0
	for _, l := range labels {
		if l != autograd.Ignored {
			n++
		}
	}
	_, dim := t.Dims(hidden)
	at, targets := t.Ints(n)[:0], t.Ints(n)[:0]
	places := t.Zeros(n, dim)
	for i, l := range labels {
		if l == autograd.Ignored {
			continue
		}
		p := i % length
		copy(t.Value(places)[len(at)*dim:], x.positions[p*dim:(p+1)*dim])
		at, targets = append(at, int32(i-p+length-1)), append(targets, l)
	}
	h := t.Add(t.Gather(hidden, at), places)
	for i := range x.linears {
		h = x.linears[i].Forward(t, x.norms[i].Forward(t, h), autograd.None, autograd.GELU)
	}
	return x.last.Forward(t, h), targets
}

// errBottleneck is what a model with a bottleneck answers when asked to go on with a text.
var errBottleneck = errors.New("model: it has a bottleneck, and answers when a row has ended: want one without, to decode")
