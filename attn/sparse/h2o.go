package sparse

import "attnbench/attn"

func init() { attn.Register("h2o", H2O{Heavy: 256, Recent: 256}, H2O.New) }

// H2O holds the options of the heavy-hitter oracle, spelled h2o:heavy=256,recent=256.
type H2O struct {
	Heavy  int `opt:"heavy"`  // tokens that are kept for the weight they got; at least 1
	Recent int `opt:"recent"` // last tokens that are kept; at least 1: a new token has little weight yet and would be the next to go
}

// New returns full attention with a cache of heavy hitters and recent tokens.
func (o H2O) New() (attn.Mechanism, error) {
	switch {
	case o.Heavy < 1 || o.Heavy > most:
		return nil, attn.OptionError("heavy", o.Heavy, "an integer from 1 to 2^30")
	case o.Recent < 1 || o.Recent > most:
		return nil, attn.OptionError("recent", o.Recent, "an integer from 1 to 2^30")
	}
	return h2o{newEvicting(attn.Info{
		Name: attn.Spell("h2o", o), Title: "Heavy-hitter oracle (H2O)", Revision: 1, Budget: "heavy",
		Paper: "Zhang et al. 2023, arXiv:2306.14048", Year: 2023,
	}, &policy{
		budget: o.Heavy + o.Recent, accumulate: true, steady: true,
		choose: chooseLargest(o.Recent, true), drop: dropSmallest(o.Recent),
	}, func(attn.Shape) string { return attn.Spell("h2o", o) })}, nil
}

type h2o struct{ evicting }

// Define computes full causal attention, which is what a prompt gets. In decoding, with the weights p of the softmax,
//
//	A[j] = Σ_i p[i,j]  over the queries i so far, summed over the query heads of the key/value head
//
// When the prompt ends, and after each later token, the last Recent of the tokens kept stay and, of the others, the Heavy of largest
// A, of equal ones the later. What goes is gone: it is in no later softmax. A later query sees all that is kept, and itself.
// Zhang et al. 2023 (arXiv:2306.14048) §4 and algorithm 1.
func (m h2o) Define(c *attn.Call64) error { return defineFull(c) }
