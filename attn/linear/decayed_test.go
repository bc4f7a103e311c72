package linear

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"attnbench/attn"
	"attnbench/attn/attntest"
)

// decayed are the mechanisms whose states decay, apart from gla.
var decayed = []string{
	"retnet", "lightning", "lightning:slopes=linear",
	"hgrn2", "mamba2", "mamba2:chunk=16", "rwkv6", "rwkv6:chunk=16",
	"gsa", "gsa:slots=20,chunk=40", "loglinear", "loglinear:levels=3",
}

func TestDecayedConformance(t *testing.T) {
	for _, spec := range decayed {
		if testing.Short() && strings.Contains(spec, ":") {
			continue // one spelling of each
		}
		t.Run(spec, func(t *testing.T) {
			m := newMech(t, spec)
			attntest.Run(t, m, m.Define)
		})
	}
}

// decay makes each token of c, drawn for the mechanism spec, decay the state by e^g, except that the mechanism fixes its decays.
func decay(spec string, c *attn.Call, g func(t int) float64) {
	each := func(f func(g float64) float64) {
		for b := range c.Batch {
			for t := range c.KeyLen {
				for h := range c.Extra[0].Heads {
					row := c.Extra[0].Row(b, t, h)
					for i := range row {
						row[i] = float32(f(g(t)))
					}
				}
			}
		}
	}
	switch name, _, _ := strings.Cut(spec, ":"); name {
	case "hgrn2", "gsa":
		each(func(g float64) float64 { return g })
	case "mamba2", "loglinear":
		clear(c.Learned[0]) // A = -1
		each(func(g float64) float64 { return -g })
	case "rwkv6":
		each(func(g float64) float64 { return math.Log(-g) })
	}
}

// mostOff is the largest |x - want| over the largest |want|.
func mostOff(x []float32, want []float64) float64 {
	off, top := 0.0, 0.0
	for i, w := range want {
		if math.IsNaN(w) { // a gap
			continue
		}
		d := math.Abs(float64(x[i]) - w)
		if math.IsNaN(d) || math.IsInf(d, 0) {
			return math.NaN()
		}
		off, top = max(off, d), max(top, math.Abs(w))
	}
	return off / top
}

// Decays from 1-1e-7 to e^-20 a step, and all of them in turn, over a long sequence: no NaN or Inf, and an error of the outputs below 1e-5
// of the largest in one pass, 1e-4 in pieces of unlike lengths, 1e-3 token by token, where each of 100,000 steps rounds the state.
func TestDecayedStability(t *testing.T) {
	specs := []string{"retnet", "lightning", "lightning:slopes=linear", "hgrn2", "mamba2", "rwkv6", "gsa", "loglinear"}
	decays := map[string]func(int) float64{
		"1e-7": func(int) float64 { return -1e-7 }, "1e-4": func(int) float64 { return -1e-4 }, "0.01": func(int) float64 { return -0.01 },
		"1": func(int) float64 { return -1 }, "20": func(int) float64 { return -20 },
		"in turn": func(t int) float64 { return -math.Exp(-16.1 + 19.1*float64(t*t%97)/96) },
	}
	for _, spec := range specs {
		fixed := strings.HasPrefix(spec, "retnet") || strings.HasPrefix(spec, "lightning")
		for name, g := range decays {
			if fixed && name != "1" {
				continue
			}
			n := 10_000
			if testing.Short() {
				n = 2000
			} else if name == "1e-7" {
				n = 100_000
			}
			m := newMech(t, spec)
			s := attn.Shape{Batch: 1, QueryLen: n, KeyLen: n, Heads: 1, KVHeads: 1, KeyDim: 4, ValueDim: 2, Mask: attn.Causal}
			if fixed { // up to 1-2^-23
				s.QueryLen, s.KeyLen, s.Heads, s.KVHeads = n, n, 19, 19
			}
			c := newCall(m, s, 7, 0)
			decay(spec, c, g)
			w := wideCall(c)
			if err := m.Define(w); err != nil {
				t.Fatal(err)
			}
			if err := m.Forward(attn.NewWorkspace(), c); err != nil {
				t.Fatal(err)
			}
			if e := mostOff(c.Out.Data, w.Out.Data); !(e < 1e-5) {
				t.Errorf("%s, decay %s, %d tokens: output differs by %.3g", spec, name, n, e)
			}
			for cut, most := range map[string]float64{"singles": 1e-3, "mixed": 1e-4} {
				pieces := slices.Repeat([]int{1}, n)
				if cut == "mixed" {
					pieces = slices.Repeat([]int{1, 64, 3, 100, 17, 15, 700, 100}, n/1000)
				}
				clear(c.Out.Data)
				extend(t, m, c, pieces)
				if e := mostOff(c.Out.Data, w.Out.Data); !(e < most) {
					t.Errorf("%s, decay %s, %d tokens in %s: output differs by %.3g", spec, name, n, cut, e)
				}
			}
		}
	}
}

// BUGS 12: strong decays among weak ones leave gradients finite and right.
func TestDecayedGradients(t *testing.T) {
	for _, spec := range []string{"hgrn2", "mamba2", "rwkv6", "gsa", "loglinear"} {
		for _, strong := range []float64{5, 20, 100, 20000} {
			for _, mixed := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%v/%v", spec, strong, mixed), func(t *testing.T) {
					m := newMech(t, spec)
					s := attn.Shape{Batch: 1, QueryLen: 150, KeyLen: 150, Heads: 2, KVHeads: 1, KeyDim: 4, ValueDim: 3, Mask: attn.Causal, Layer: 1, Layers: 3}
					if strong > 100 && spec == "hgrn2" {
						s.Layer = 0 // elsewhere no decay is that strong
					}
					c := newCall(m, s, 5, 1e-4)
					decay(spec, c, func(t int) float64 {
						if mixed && t%37 != 3 {
							return -1e-4
						}
						return -strong
					})
					g := newGrads(c, 6)
					backward(t, m, c, g)
					checkGrads(t, m, c, g)
				})
			}
		}
	}
}

// BUGS 42: decayed states end at 0, not among the subnormal numbers.
func TestDecayedStatesEnd(t *testing.T) {
	for _, spec := range []string{"retnet", "mamba2", "rwkv6"} {
		for _, step := range []int{1, 64} {
			const n = 20_000
			m := newMech(t, spec)
			s := attn.Shape{Batch: 1, QueryLen: n, KeyLen: n, Heads: 1, KVHeads: 1, KeyDim: 1, ValueDim: 1, Mask: attn.Causal}
			c := newCall(m, s, 1, 0)
			decay(spec, c, func(int) float64 { return math.Log(0.9) })
			for i := 1; i < n; i++ {
				c.K.Row(0, i, 0)[0] = 0
			}
			x := extend(t, m, c, slices.Repeat([]int{step}, n/step)).(interface{ Numbers() []float32 }).Numbers()
			if x[0] != 0 {
				t.Errorf("%s, steps of %d: state %g: want 0", spec, step, x[0])
			}
		}
	}
}

// BUGS 16 and METHODS' order of reading: RWKV-6 reads before it writes and decays, the others after. One channel, S = 0 at the
// start, k = 1, v = 4, 6, r = 1, decay 1/2, u = 3.
func TestReadOrder(t *testing.T) {
	for _, tc := range []struct {
		spec string
		want []float64 // outputs
	}{
		{"rwkv6", []float64{3 * 4, 4 + 3*6, 4./2 + 6 + 3*6}}, // S_1 = 4, S_2 = 4/2 + 6
		{"mamba2", []float64{4 * math.Ln2, (4./2 + 6) * math.Ln2, (4./4 + 6./2 + 6) * math.Ln2}},
		{"gsa", []float64{4. / 2, 4./4 + 6./2, 4./8 + 6./4 + 6./2}}, // one slot takes all
		{"hgrn2", []float64{4. / 2, 4./4 + 6./2, 4./8 + 6./4 + 6./2}},
		{"retnet", []float64{4, 4*31./32 + 6, 4*31./32*31/32 + 6*31./32 + 6}},
	} {
		m := newMech(t, tc.spec)
		s := attn.Shape{Batch: 1, QueryLen: 3, KeyLen: 3, Heads: 1, KVHeads: 1, KeyDim: 1, ValueDim: 1, Mask: attn.Causal}
		c := newCall(m, s, 1, 0)
		decay(tc.spec, c, func(int) float64 { return -math.Ln2 })
		for t := range 3 {
			c.Q.Row(0, t, 0)[0] = 1
			if !c.K.Empty() {
				c.K.Row(0, t, 0)[0] = 1
			}
			c.V.Row(0, t, 0)[0] = float32([]float64{4, 6, 6}[t])
		}
		switch tc.spec {
		case "rwkv6":
			c.Learned[0][0] = 3
		case "mamba2":
			c.Learned[1][0] = 0
		}
		if err := m.Forward(attn.NewWorkspace(), c); err != nil {
			t.Fatal(err)
		}
		for i, want := range tc.want {
			if got := float64(c.Out.Row(0, i, 0)[0]); math.Abs(got-want) > 1e-5 {
				t.Errorf("%s: output %d is %v: want %v", tc.spec, i, got, want)
			}
		}
	}
}

// The decays that are constants of head and layer.
func TestFixedDecays(t *testing.T) {
	s := attn.Shape{KVHeads: 4, Layer: 2, Layers: 5}
	for h, want := range []float64{1 - 1./32, 1 - 1./64, 1 - 1./128, 1 - 1./256} {
		if got := math.Exp(RetNet{}.decay(s, h)); math.Abs(got-want) > 1e-15 {
			t.Errorf("retnet, head %d: %v: want %v", h, got, want)
		}
	}
	for h, want := range []float64{0, 2 * 3. / 5, 4 * 3. / 5, 6 * 3. / 5} {
		if got := (Lightning{Slopes: "linear"}).slope(s, h); math.Abs(got-want) > 1e-12 {
			t.Errorf("lightning, linear, head %d: %v: want %v", h, got, want)
		}
	}
	for h, want := range []float64{0.25, 0.0625, 0.015625, 0.00390625} {
		if got := (Lightning{Slopes: "geometric"}).slope(s, h); math.Abs(got-want*(0.5+1e-5)) > 1e-12 {
			t.Errorf("lightning, geometric, head %d: %v: want %v", h, got, want*(0.5+1e-5))
		}
	}
	one := attn.Shape{KVHeads: 1}
	if got := (Lightning{Slopes: "geometric"}).slope(one, 0); math.Abs(got-(1+1e-5)/256) > 1e-12 {
		t.Errorf("lightning, geometric, one head in one layer: %v: want %v", got, (1+1e-5)/256)
	}
}

// The bounds rise evenly at the start, from none in the first layer.
func TestLowerBounds(t *testing.T) {
	for l := range 4 {
		gamma := make([]float64, 2)
		lowerBounds(gamma, make([]float64, 8), attn.Shape{Layer: l, Layers: 4})
		for _, x := range gamma {
			if math.Abs(x-float64(l)/4) > 1e-15 {
				t.Errorf("layer %d: bound %v: want %v", l, x, float64(l)/4)
			}
		}
	}
}
