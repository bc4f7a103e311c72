package autograd

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"attnbench/attn"
)

// lstm64 is AttentiveLSTM's formula in float64. m holds x, wh, h0 and, with attention, memory, keys, wq, v and wr.
func lstm64(m []mat64, batch, share int, lengths []int32) mat64 {
	x, wh, h0 := m[0], m[1], m[2]
	steps, hidden, width := x.r/batch, wh.r, 0
	if len(m) > 3 {
		width = m[3].c
	}
	out := zeros64(x.r, hidden+width)
	for b := range batch {
		h, c := mat64{1, hidden, slices.Clone(h0.x[b*hidden : (b+1)*hidden])}, make([]float64, hidden)
		for t := range steps {
			row := b*steps + t
			z := mat64{1, 4 * hidden, slices.Clone(x.x[row*4*hidden : (row+1)*4*hidden])}
			plus := func(y mat64) {
				for i := range y.x {
					z.x[i] += y.x[i]
				}
			}
			plus(mul64(h, wh, nil))
			if width > 0 {
				memory, keys, wq, v, wr := m[3], m[4], m[5], m[6], m[7]
				first := b / share * (memory.r / len(lengths))
				q, r := mul64(h, wq, nil), zeros64(1, width)
				p := make([]float64, lengths[b/share])
				for j := range p {
					for u := range v.c {
						p[j] += v.x[u] * math.Tanh(q.x[u]+keys.at(first+j, u))
					}
				}
				attn.Softmax(p)
				for j := range p {
					for e := range width {
						r.x[e] += p[j] * memory.at(first+j, e)
					}
				}
				plus(mul64(r, wr, nil))
				copy(out.x[row*(hidden+width)+hidden:], r.x)
			}
			for i := range hidden {
				c[i] = sigma(z.x[hidden+i])*c[i] + sigma(z.x[i])*math.Tanh(z.x[3*hidden+i])
				h.x[i] = sigma(z.x[2*hidden+i]) * math.Tanh(c[i])
			}
			copy(out.x[row*(hidden+width):], h.x)
		}
	}
	return out
}

func lstmCases() []gradCase {
	var cs []gradCase
	for _, s := range [][3]int{{1, 1, 1}, {3, 4, 5}, {9, 2, 3}} {
		batch, steps, hidden := s[0], s[1], s[2]
		cs = append(cs, gradCase{fmt.Sprintf("lstm %v", s), [][2]int{{batch * steps, 4 * hidden}, {hidden, 4 * hidden}, {batch, hidden}},
			func(t *Tape, v []Var) Var {
				out, _ := t.LSTM(AttentiveLSTM{Batch: batch, Steps: steps, X: v[0], Wh: v[1], H0: v[2]})
				return out
			}, func(m []mat64) mat64 { return lstm64(m, batch, 1, nil) }})
	}
	for _, c := range []struct {
		batch, steps, share, keys int
		lengths                   []int32
	}{{1, 1, 1, 1, []int32{1}}, {3, 4, 1, 6, []int32{6, 0, 2}}, {4, 3, 2, 5, []int32{5, 3}}} {
		const hidden, width, units = 5, 3, 4
		cs = append(cs, gradCase{fmt.Sprintf("attentive lstm %v", c), [][2]int{{c.batch * c.steps, 4 * hidden}, {hidden, 4 * hidden}, {c.batch, hidden},
			{len(c.lengths) * c.keys, width}, {len(c.lengths) * c.keys, units}, {hidden, units}, {1, units}, {width, 4 * hidden}},
			func(t *Tape, v []Var) Var {
				out, _ := t.LSTM(AttentiveLSTM{Batch: c.batch, Steps: c.steps, X: v[0], Wh: v[1], H0: v[2],
					Memory: v[3], Keys: v[4], Wq: v[5], V: v[6], Wr: v[7], Lengths: c.lengths, Share: c.share})
				return out
			}, func(m []mat64) mat64 { return lstm64(m, c.batch, c.share, c.lengths) }})
	}
	return cs
}

// TestLSTMInSteps: one step a call, from the state that the call before left, gives the same bits.
func TestLSTMInSteps(t *testing.T) {
	const batch, steps, hidden = 3, 5, 8
	x, w := make([]float32, batch*steps*4*hidden), make([]float32, hidden*4*hidden)
	for i := range x {
		x[i] = float32(math.Sin(float64(i)))
	}
	for i := range w {
		w[i] = float32(math.Cos(float64(3 * i)))
	}
	tape := NewTape(attn.NewWorkspace())
	tape.NoGrad = true
	all, cells := tape.LSTM(AttentiveLSTM{Batch: batch, Steps: steps, X: tape.Const(x, batch*steps, 4*hidden), Wh: tape.Const(w, hidden, 4*hidden)})
	want, wantCells := slices.Clone(tape.Value(all)), slices.Clone(cells)
	var h, c []float32
	for s := range steps {
		tape.Reset()
		var now []float32
		for b := range batch {
			now = append(now, x[(b*steps+s)*4*hidden:][:4*hidden]...)
		}
		l := AttentiveLSTM{Batch: batch, Steps: 1, X: tape.Const(now, batch, 4*hidden), Wh: tape.Const(w, hidden, 4*hidden)}
		if s > 0 {
			l.H0, l.C0 = tape.Const(h, batch, hidden), tape.Const(c, batch, hidden)
		}
		out, cells := tape.LSTM(l)
		h, c = slices.Clone(tape.Value(out)), slices.Clone(cells)
		for b := range batch {
			at := (b*steps + s) * hidden
			if !slices.Equal(h[b*hidden:(b+1)*hidden], want[at:at+hidden]) || !slices.Equal(c[b*hidden:(b+1)*hidden], wantCells[at:at+hidden]) {
				t.Fatalf("row %d, step %d differs", b, s)
			}
		}
	}
}
