package sparse

import (
	"math"

	"attnbench/attn"
)

func init() {
	attn.Register("snapkv", SnapKV{Keep: 320, Window: 64, Kernel: 5, Pool: "avg"}, SnapKV.New)
}

// SnapKV holds the options of SnapKV, spelled snapkv:keep=320,window=64,kernel=5,pool=max.
type SnapKV struct {
	Keep   int    `opt:"keep"`   // tokens that are kept of a prompt, the window's included; more than the window
	Window int    `opt:"window"` // last queries of the prompt whose weights count, and whose tokens are kept; at least 1
	Kernel int    `opt:"kernel"` // neighbouring tokens whose weights are pooled; odd, 1 for none
	Pool   string `opt:"pool"`   // avg or max
}

// New returns full attention with a cache of the prompt's tokens that its last queries look at.
func (o SnapKV) New() (attn.Mechanism, error) {
	switch {
	case o.Window < 1 || o.Window > most:
		return nil, attn.OptionError("window", o.Window, "an integer from 1 to 2^30")
	case o.Keep <= o.Window || o.Keep > most:
		return nil, attn.OptionError("keep", o.Keep, "an integer above the window, to 2^30")
	case o.Kernel < 1 || o.Kernel > 4095 || o.Kernel%2 == 0:
		return nil, attn.OptionError("kernel", o.Kernel, "an odd integer from 1 to 4095")
	case o.Pool != "avg" && o.Pool != "max":
		return nil, attn.OptionError("pool", o.Pool, "avg or max")
	}
	largest := chooseLargest(o.Window, false)
	return snapKV{newEvicting(attn.Info{
		Name: attn.Spell("snapkv", o), Title: "SnapKV", Revision: 1, Budget: "keep",
		Paper: "Li et al. 2024, arXiv:2404.14469", Year: 2024,
	}, &policy{
		budget: o.Keep, observe: o.Window,
		choose: func(kept []int32, weights []float32) { largest(kept, o.pool(weights)) },
	}, func(attn.Shape) string { return attn.Spell("snapkv", o) })}, nil
}

type snapKV struct{ evicting }

// Define computes full causal attention, which is what a prompt gets. When a prompt of T > Keep tokens ends,
//
//	w[j] = Σ_i p[i,j]  over its last Window queries i and the query heads of the key/value head, for j < T - Window
//	w'[j] = the mean (max) of w over the Kernel tokens around j, with 0 (nothing) beyond the ends
//
// the last Window tokens stay and the Keep - Window others of largest w', of equal ones the earlier. Later tokens are appended and
// stay. If the call that ends the prompt brings fewer queries than Window, those count. Li et al. 2024 (arXiv:2404.14469) §4.
func (m snapKV) Define(c *attn.Call64) error { return defineFull(c) }

// pool returns w' for all but the window's tokens.
func (o SnapKV) pool(w []float32) []float32 {
	n, reach := len(w)-o.Window, o.Kernel/2
	pooled := make([]float32, len(w))
	for j := range n {
		lo, hi := max(0, j-reach), min(n, j+reach+1)
		x := float32(0) // the mean's divisor is the same for all
		if o.Pool == "max" {
			x = float32(math.Inf(-1))
		}
		for _, y := range w[lo:hi] {
			if o.Pool == "max" {
				x = max(x, y)
			} else {
				x += y
			}
		}
		pooled[j] = x
	}
	return pooled
}
