package full

import (
	"math"

	"attnbench/attn"
	"attnbench/attn/composed"
	"attnbench/autograd"
)

func init() { attn.Register("sigmoid", Sigmoid{}, Sigmoid.New) }

// Sigmoid is attention with a sigmoid in place of softmax (Ramapuram et al. 2024, arXiv:2409.04431), spelled sigmoid. It has no options.
//
// The paper's bias is -ln(sequence length), so that a row of weights sums to about 1 at the start of training. Here the bias of a
// row is minus the logarithm of the number of keys that it sees: what a query gives then does not depend on later tokens, and decoding
// equals one pass.
type Sigmoid struct{}

// New returns sigmoid attention.
func (o Sigmoid) New() (attn.Mechanism, error) {
	return sigmoid{composed.New(attn.Info{
		Name: attn.Spell("sigmoid", o), Family: "full", Title: "Sigmoid attention",
		Paper: "Ramapuram et al. 2024, arXiv:2409.04431", Year: 2024, Revision: 1,
		Masks: attn.Causal | attn.Bidirectional | attn.Cross,
	}, sigmoidHead)}, nil
}

// sigmoidHead computes one head: o = σ(q·kᵀ/√d - ln n)·v, where query i sees n[i] keys.
func sigmoidHead(t *autograd.Tape, in composed.Inputs) autograd.Var {
	_, d := t.Dims(in.Q)
	scores := t.Scores(t.Scale(in.Q, float32(1/math.Sqrt(float64(d)))), in.K, in.Causal)
	// σ(s - ln n) = e^s/(e^s + n); the number of keys is a column, one a query.
	n := t.VisibleKeys(in.Causal, in.Queries, in.Keys)
	weights := t.Sigmoid(t.Sub(scores, t.Log(n)))
	return t.Weigh(weights, in.V, in.Causal)
}

// sigmoid is the composed mechanism with its definition.
type sigmoid struct{ composed.Mechanism }

// Define computes, for each head,
//
//	o[i] = Σ_j σ(q[i]·k[j]/√d - ln n[i]) v[j]  over the n[i] keys j that the mask lets i see
//
// A query that sees no key gives zeros. Ramapuram et al. 2024 (arXiv:2409.04431) eq. 3 and §3.1 with n[i] for n.
func (sigmoid) Define(c *attn.Call64) error {
	c.ZeroPadding()
	c.EachHead(func(h attn.Head64) {
		for i := range h.Queries {
			clear(h.Out(i))
			n := 0.0
			for j := range h.Keys {
				if h.Sees(i, j) {
					n++
				}
			}
			for j := range h.Keys {
				if h.Sees(i, j) {
					s := attn.Dot(h.Q(i), h.K(j))/math.Sqrt(float64(c.KeyDim)) - math.Log(n)
					attn.Axpy(1/(1+math.Exp(-s)), h.V(j), h.Out(i))
				}
			}
		}
	})
	return nil
}
