package sparse

import "attnbench/attn"

func init() { attn.Register("tova", TOVA{Keep: 512}, TOVA.New) }

// TOVA holds the options of token omission via attention, spelled tova:keep=512.
type TOVA struct {
	Keep int `opt:"keep"` // tokens that are kept, by all heads of the layer together; at least 1
}

// New returns full attention with a cache of the tokens that the newest query looks at.
func (o TOVA) New() (attn.Mechanism, error) {
	if o.Keep < 1 || o.Keep > most {
		return nil, attn.OptionError("keep", o.Keep, "an integer from 1 to 2^30")
	}
	return tova{newEvicting(attn.Info{
		Name: attn.Spell("tova", o), Title: "Token omission via attention (TOVA)", Revision: 1, Budget: "keep",
		Paper: "Oren et al. 2024, arXiv:2401.06104", Year: 2024,
	}, &policy{
		budget: o.Keep, observe: 1, wide: true, steady: true,
		choose: chooseLargest(0, true), drop: dropSmallest(0),
	}, func(attn.Shape) string { return attn.Spell("tova", o) })}, nil
}

type tova struct{ evicting }

// Define computes full causal attention, which is what a prompt gets. When the prompt ends, and after each later token, of the tokens
// kept those Keep stay to which the newest query gives the largest weight, summed over all heads of the layer, of equal ones the
// later. The newest token has no privilege. Oren et al. 2024 (arXiv:2401.06104) §4.
func (m tova) Define(c *attn.Call64) error { return defineFull(c) }
