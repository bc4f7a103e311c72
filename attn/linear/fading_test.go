package linear

import (
	"math"
	"strconv"
	"strings"
	"testing"

	"attnbench/attn"
	"attnbench/attn/attntest"
	"attnbench/attn/tile"
)

// fading is a recurrence with one decay a head, which no registered mechanism of this package has:
//
//	S_t = e^{g_t} S_{t-1} + k_t v_tᵀ,  o_t = S_tᵀ q_t / √d
type fading struct{ recurrent }

// newFading returns the mechanism of spec, fading or fading:chunk=…, nil for another.
func newFading(spec string) mechanism {
	name, chunk, _ := strings.Cut(spec, ":chunk=")
	if name != "fading" {
		return nil
	}
	n, err := strconv.Atoi(chunk)
	if err != nil {
		n = 64
	}
	m := fading{recurrent{rec: tile.Recurrence{Chunk: n, Decay: tile.HeadDecay}}}
	m.describe(attn.Info{
		Name: spec, Title: "Fading", Paper: "none", Year: 2026, Revision: 1, Masks: attn.Causal,
		Inputs: append(attn.QKV(), attn.Input{
			Name: "g", From: attn.MemorySide, Heads: attn.KVHeads, Width: attn.OneWide, Act: attn.LogSigmoid, Scale: 1.0 / 4,
		}),
	})
	return m
}

func (m fading) Define(c *attn.Call64) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	c.ZeroPadding()
	c.EachHead(func(h attn.Head64) {
		s := newState64(h, false)
		for i := range min(h.Queries, -h.Offset()) {
			clear(h.Out(i))
		}
		for j := range h.Keys {
			decay, k, v := math.Exp(h.KeySide(0, j)[0]), h.K(j), h.V(j)
			for a := range k {
				for b := range v {
					s.s[a*c.ValueDim+b] = decay*s.s[a*c.ValueDim+b] + k[a]*v[b]
				}
			}
			i := j - h.Offset()
			if i < 0 {
				continue
			}
			clear(h.Out(i))
			for a, q := range h.Q(i) {
				for b := range v {
					h.Out(i)[b] += q / math.Sqrt(float64(c.KeyDim)) * s.s[a*c.ValueDim+b]
				}
			}
		}
		s.store(h)
	})
	return nil
}

func TestHeadDecayConformance(t *testing.T) {
	m := newMech(t, "fading")
	attntest.Run(t, m, m.Define)
}
