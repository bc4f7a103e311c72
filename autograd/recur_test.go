package autograd

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"attnbench/attn"
)

// recur64 is the definition of a cell in float64; h0 and c0 may be empty.
func recur64(cell Cell, batch int, x, u, h0, c0 mat64) mat64 {
	steps, hidden := x.r/batch, u.r
	out := zeros64(x.r, hidden)
	s := func(v float64) float64 { return 1 / (1 + math.Exp(-v)) }
	for b := range batch {
		h, c := make([]float64, hidden), make([]float64, hidden)
		if h0.r > 0 {
			copy(h, h0.x[b*hidden:])
		}
		if c0.r > 0 {
			copy(c, c0.x[b*hidden:])
		}
		for t := range steps {
			row := b*steps + t
			hu := mul64(mat64{1, hidden, slices.Clone(h)}, u, nil)
			for e := range hidden {
				gate := func(g int) float64 { return x.at(row, g*hidden+e) + hu.x[g*hidden+e] }
				switch cell {
				case Elman:
					h[e] = math.Tanh(gate(0))
				case GRU:
					r, z := s(gate(0)), s(gate(1))
					n := math.Tanh(x.at(row, 2*hidden+e) + r*hu.x[2*hidden+e])
					h[e] = (1-z)*n + z*h[e]
				case LSTM:
					c[e] = s(gate(1))*c[e] + s(gate(0))*math.Tanh(gate(3))
					h[e] = s(gate(2)) * math.Tanh(c[e])
				}
			}
			copy(out.x[row*hidden:], h)
		}
	}
	return out
}

func recurCases() []gradCase {
	var cs []gradCase
	for _, cell := range []Cell{Elman, GRU, LSTM} {
		for _, s := range [][3]int{{1, 1, 1}, {3, 4, 5}, {9, 2, 35}, {1, 2, 130}} {
			if s[2] > blockK && cell != Elman {
				continue // slow to check
			}
			batch, steps, hidden := s[0], s[1], s[2]
			x, u, h := [2]int{batch * steps, cell.Gates() * hidden}, [2]int{hidden, cell.Gates() * hidden}, [2]int{batch, hidden}
			scale := float32(1 / math.Sqrt(float64(hidden)))
			cs = append(cs, gradCase{fmt.Sprintf("cell %d %v", cell, s), [][2]int{x, u}, func(t *Tape, v []Var) Var {
				out, _ := t.Recur(Recurrence{Cell: cell, Batch: batch, Steps: steps, X: v[0], U: t.Scale(v[1], scale)})
				return out
			}, func(m []mat64) mat64 { return recur64(cell, batch, m[0], scaled64(m[1], scale), mat64{}, mat64{}) }})
			shapes := [][2]int{x, u, h}
			if cell == LSTM {
				shapes = append(shapes, h)
			}
			cs = append(cs, gradCase{fmt.Sprintf("cell %d %v from a state", cell, s), shapes, func(t *Tape, v []Var) Var {
				r := Recurrence{Cell: cell, Batch: batch, Steps: steps, X: v[0], U: t.Scale(v[1], scale), H0: v[2]}
				if cell == LSTM {
					r.C0 = v[3]
				}
				out, _ := t.Recur(r)
				return out
			}, func(m []mat64) mat64 {
				c0 := mat64{}
				if cell == LSTM {
					c0 = m[3]
				}
				return recur64(cell, batch, m[0], scaled64(m[1], scale), m[2], c0)
			}})
		}
	}
	return cs
}

func scaled64(m mat64, by float32) mat64 {
	return map64(m, func(x float64) float64 { return x * float64(by) })
}

// recurInputs are the inputs of a recurrence of a few steps.
type recurInputs struct {
	cell                 Cell
	batch, steps, hidden int
	x, u                 []float32
}

func newRecurInputs(cell Cell) recurInputs {
	in := recurInputs{cell: cell, batch: 17, steps: 7, hidden: 20}
	r := rand.New(rand.NewPCG(4, uint64(cell)))
	width := cell.Gates() * in.hidden
	in.x, in.u = make([]float32, in.batch*in.steps*width), make([]float32, in.hidden*width)
	for i := range in.x {
		in.x[i] = float32(r.NormFloat64())
	}
	for i := range in.u {
		in.u[i] = float32(0.3 * r.NormFloat64())
	}
	return in
}

// run runs steps lo to hi from the state h, c and gives h_t the gradient t+1. It returns all states, the last cells and the gradients of x and u.
func (in recurInputs) run(tape *Tape, lo, hi, cut int, h, c []float32) (out, cells, dx, du []float32) {
	tape.Reset()
	width, steps := in.cell.Gates()*in.hidden, hi-lo
	var x []float32
	for b := range in.batch {
		x = append(x, in.x[(b*in.steps+lo)*width:(b*in.steps+hi)*width]...)
	}
	dx, du = make([]float32, len(x)), make([]float32, len(in.u))
	r := Recurrence{
		Cell: in.cell, Batch: in.batch, Steps: steps, Cut: cut,
		X: tape.Input(x, dx, in.batch*steps, width), U: tape.Input(in.u, du, in.hidden, width),
	}
	if h != nil {
		r.H0 = tape.Const(h, in.batch, in.hidden)
	}
	if c != nil {
		r.C0 = tape.Const(c, in.batch, in.hidden)
	}
	v, cells := tape.Recur(r)
	if g := tape.SeedGrad(v); g != nil {
		for i := range g {
			g[i] = float32(i/in.hidden%steps + lo + 1)
		}
		tape.BackwardAll()
	}
	return slices.Clone(tape.Value(v)), slices.Clone(cells), dx, du
}

// last returns what states [batch·steps, hidden] are after the last step.
func (in recurInputs) last(states []float32, steps int) []float32 {
	if states == nil {
		return nil
	}
	var s []float32
	for b := range in.batch {
		s = append(s, states[((b+1)*steps-1)*in.hidden:(b+1)*steps*in.hidden]...)
	}
	return s
}

// TestRecurInPieces: pieces that carry the state give the bits of one pass, and cuts between them its gradients.
func TestRecurInPieces(t *testing.T) {
	tape := NewTape(attn.NewWorkspace())
	for _, cell := range []Cell{Elman, GRU, LSTM} {
		in := newRecurInputs(cell)
		want, wantCells, _, _ := in.run(tape, 0, in.steps, 0, nil, nil)
		_, _, wantX, wantU := in.run(tape, 0, in.steps, 3, nil, nil)
		width := cell.Gates() * in.hidden
		var h, c []float32
		sumU := make([]float32, len(in.u))
		for _, p := range [][2]int{{0, 3}, {3, 6}, {6, 7}} {
			steps := p[1] - p[0]
			out, cells, dx, du := in.run(tape, p[0], p[1], 0, h, c)
			h, c = in.last(out, steps), in.last(cells, steps)
			for b := range in.batch {
				for s := range steps {
					i, j := b*steps+s, b*in.steps+p[0]+s
					if !slices.Equal(out[i*in.hidden:(i+1)*in.hidden], want[j*in.hidden:(j+1)*in.hidden]) {
						t.Fatalf("cell %d: row %d, step %d differs from one pass", cell, b, p[0]+s)
					}
					if !slices.Equal(dx[i*width:(i+1)*width], wantX[j*width:(j+1)*width]) {
						t.Fatalf("cell %d: row %d, step %d: gradient differs from that of a cut pass", cell, b, p[0]+s)
					}
				}
			}
			for i, g := range du {
				sumU[i] += g
			}
		}
		if wantCells != nil && !slices.Equal(c, in.last(wantCells, in.steps)) {
			t.Errorf("cell %d: last cells differ", cell)
		}
		for i, g := range sumU {
			if math.Abs(float64(g-wantU[i])) > 1e-3 {
				t.Errorf("cell %d: gradient %d of U is %v: want %v", cell, i, wantU[i], g)
				break
			}
		}
	}
}

// TestRecurRowsAlone: the same bits at any GOMAXPROCS, and of a row alone; later steps change no earlier one.
func TestRecurRowsAlone(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, cell := range []Cell{Elman, GRU, LSTM} {
		in := newRecurInputs(cell)
		var want, wantX, wantU []float32
		for _, procs := range []int{1, 2, 7} {
			runtime.GOMAXPROCS(procs)
			out, _, dx, du := in.run(NewTape(attn.NewWorkspace()), 0, in.steps, 0, nil, nil)
			if want == nil {
				want, wantX, wantU = out, dx, du
			}
			if !slices.Equal(out, want) || !slices.Equal(dx, wantX) || !slices.Equal(du, wantU) {
				t.Errorf("cell %d: other bits at GOMAXPROCS %d", cell, procs)
			}
		}
		one := in
		n, width := in.steps*in.hidden, in.steps*cell.Gates()*in.hidden
		one.batch, one.x = 1, slices.Clone(in.x[11*width:12*width])
		out, _, dx, _ := one.run(NewTape(attn.NewWorkspace()), 0, in.steps, 0, nil, nil)
		if !slices.Equal(out, want[11*n:12*n]) || !slices.Equal(dx, wantX[11*width:12*width]) {
			t.Errorf("cell %d: row 11 differs alone", cell)
		}
		for i := width / in.steps * 4; i < width; i++ {
			one.x[i] = 99
		}
		out, _, _, _ = one.run(NewTape(attn.NewWorkspace()), 0, in.steps, 0, nil, nil)
		if !slices.Equal(out[:4*in.hidden], want[11*n:][:4*in.hidden]) || slices.Equal(out, want[11*n:12*n]) {
			t.Errorf("cell %d: step 4 changes an earlier one, or no later one", cell)
		}
	}
}

func BenchmarkRecur(b *testing.B) {
	for _, cell := range []Cell{Elman, LSTM} {
		b.Run(fmt.Sprint(cell), func(b *testing.B) {
			const batch, steps, hidden = 16, 256, 224
			in := recurInputs{cell: cell, batch: batch, steps: steps, hidden: hidden}
			width := cell.Gates() * hidden
			in.x, in.u = make([]float32, batch*steps*width), make([]float32, hidden*width)
			dx, du := make([]float32, len(in.x)), make([]float32, len(in.u))
			tape := NewTape(attn.NewWorkspace())
			for b.Loop() {
				tape.Reset()
				v, _ := tape.Recur(Recurrence{Cell: cell, Batch: batch, Steps: steps, X: tape.Input(in.x, dx, batch*steps, width), U: tape.Input(in.u, du, hidden, width)})
				tape.SeedGrad(v)
				tape.BackwardAll()
			}
			b.ReportMetric(3*2*float64(batch*steps)*float64(hidden*width)*float64(b.N)/b.Elapsed().Seconds(), "FLOP/s")
		})
	}
}
