package autograd

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"attnbench/attn"
)

type gradCase struct {
	name   string
	shapes [][2]int
	build  func(t *Tape, v []Var) Var
	ref    func(m []mat64) mat64
}

func gradCases() []gradCase {
	var cs []gradCase
	add := func(name string, shapes [][2]int, build func(t *Tape, v []Var) Var, ref func(m []mat64) mat64) {
		cs = append(cs, gradCase{name, shapes, build, ref})
	}
	all := []Activation{Identity, SiLU, GELU, ReLU, Sigmoid, Tanh, LogSigmoid, Softplus, Exp, GELUErf}
	for _, a := range all {
		add(fmt.Sprintf("activate %d", a), [][2]int{{5, 7}}, func(t *Tape, v []Var) Var { return t.Activate(v[0], a) },
			func(m []mat64) mat64 { return map64(m[0], func(x float64) float64 { return act64(a, x) }) })
		add(fmt.Sprintf("linear %d", a), [][2]int{{9, 5}, {5, 35}, {1, 35}, {9, 35}},
			func(t *Tape, v []Var) Var { return t.Linear(v[0], v[1], v[2], v[3], a) },
			func(m []mat64) mat64 {
				plus := func(x, y float64) float64 { return x + y }
				return map64(bin64(bin64(mul64(m[0], m[1], nil), m[2], plus), m[3], plus), func(x float64) float64 { return act64(a, x) })
			})
	}
	add("log", [][2]int{{5, 7}}, func(t *Tape, v []Var) Var { return t.Log(t.Exp(v[0])) }, func(m []mat64) mat64 { return m[0] })
	add("linear plain", [][2]int{{3, 6}, {6, 4}}, func(t *Tape, v []Var) Var { return t.Linear(v[0], v[1], None, None, Identity) },
		func(m []mat64) mat64 { return mul64(m[0], m[1], nil) })
	add("linear wide", [][2]int{{270, 80}, {80, 3}}, func(t *Tape, v []Var) Var { return t.Linear(v[0], v[1], None, None, Identity) },
		func(m []mat64) mat64 { return mul64(m[0], m[1], nil) })
	add("matmul", [][2]int{{70, 6}, {6, 13}}, func(t *Tape, v []Var) Var { return t.MatMul(v[0], v[1]) },
		func(m []mat64) mat64 { return mul64(m[0], m[1], nil) })
	add("matmul shared operand", [][2]int{{6, 6}}, func(t *Tape, v []Var) Var { return t.MatMul(v[0], v[0]) },
		func(m []mat64) mat64 { return mul64(m[0], m[0], nil) })
	add("matmulT", [][2]int{{7, 6}, {11, 6}}, func(t *Tape, v []Var) Var { return t.MatMulT(v[0], v[1]) },
		func(m []mat64) mat64 { return mul64(m[0], t64(m[1]), nil) })
	for _, b := range []struct {
		name  string
		shape [2]int
	}{{"full", [2]int{6, 5}}, {"row", [2]int{1, 5}}, {"column", [2]int{6, 1}}, {"one", [2]int{1, 1}}} {
		for i, op := range []func(x, y float64) float64{
			func(x, y float64) float64 { return x + y }, func(x, y float64) float64 { return x - y },
			func(x, y float64) float64 { return x * y }, func(x, y float64) float64 { return x / (y*y + 1) },
		} {
			add(fmt.Sprintf("binary %d %s", i, b.name), [][2]int{{6, 5}, b.shape}, func(t *Tape, v []Var) Var {
				switch i {
				case 0:
					return t.Add(v[0], v[1])
				case 1:
					return t.Sub(v[0], v[1])
				case 2:
					return t.Mul(v[0], v[1])
				}
				return t.Div(v[0], t.AddScalar(t.Mul(v[1], v[1]), 1))
			}, func(m []mat64) mat64 { return bin64(m[0], m[1], op) })
		}
	}
	add("add to itself", [][2]int{{3, 5}}, func(t *Tape, v []Var) Var { return t.Add(v[0], v[0]) },
		func(m []mat64) mat64 { return map64(m[0], func(x float64) float64 { return 2 * x }) })
	add("scale", [][2]int{{3, 5}}, func(t *Tape, v []Var) Var { return t.Scale(v[0], -1.5) },
		func(m []mat64) mat64 { return map64(m[0], func(x float64) float64 { return -1.5 * x }) })
	add("swiglu", [][2]int{{3, 10}}, func(t *Tape, v []Var) Var { return t.SwiGLU(v[0]) }, func(m []mat64) mat64 {
		o := zeros64(3, 5)
		for i := range 15 {
			o.x[i] = act64(SiLU, m[0].at(i/5, i%5)) * m[0].at(i/5, i%5+5)
		}
		return o
	})
	add("swiglu of a value used twice", [][2]int{{3, 4}}, func(t *Tape, v []Var) Var { return t.Add(t.SwiGLU(v[0]), t.SliceCols(v[0], 0, 2)) },
		func(m []mat64) mat64 {
			o := zeros64(3, 2)
			for i := range 6 {
				x := m[0].at(i/2, i%2)
				o.x[i] = act64(SiLU, x)*m[0].at(i/2, i%2+2) + x
			}
			return o
		})
	for _, width := range []int{12, 4} {
		rms := func(m []mat64) mat64 {
			return norm64(m[0], width, func(x, y []float64) {
				s := 1e-5
				for _, v := range x {
					s += v * v / float64(width)
				}
				for i, v := range x {
					y[i] = v / math.Sqrt(s) * m[1].x[i]
				}
			})
		}
		add(fmt.Sprintf("rmsnorm %d", width), [][2]int{{5, 12}, {1, width}}, func(t *Tape, v []Var) Var { return t.RMSNorm(v[0], v[1], width, 1e-5) }, rms)
	}
	add("l2norm", [][2]int{{5, 12}}, func(t *Tape, v []Var) Var { return t.L2Norm(v[0], 4, 1e-3) }, func(m []mat64) mat64 {
		return norm64(m[0], 4, func(x, y []float64) {
			s := 1e-6
			for _, v := range x {
				s += v * v
			}
			for i, v := range x {
				y[i] = v / math.Sqrt(s)
			}
		})
	})
	add("layernorm", [][2]int{{5, 12}, {1, 12}, {1, 12}}, func(t *Tape, v []Var) Var { return t.LayerNorm(v[0], v[1], v[2], 1e-5) }, func(m []mat64) mat64 {
		return norm64(m[0], 12, func(x, y []float64) {
			mean, va := 0.0, 1e-5
			for _, v := range x {
				mean += v / 12
			}
			for _, v := range x {
				va += (v - mean) * (v - mean) / 12
			}
			for i, v := range x {
				y[i] = (v-mean)/math.Sqrt(va)*m[1].x[i] + m[2].x[i]
			}
		})
	})
	for _, s := range [][2]int{{5, 5}, {3, 7}, {7, 3}, {70, 41}, {33, 70}} {
		br := bottomRight(s[0], s[1])
		add(fmt.Sprintf("causal softmax %v", s), [][2]int{s}, func(t *Tape, v []Var) Var { return t.Softmax(t.CausalMask(v[0])) },
			func(m []mat64) mat64 { return softmax64(m[0], br) })
		for _, causal := range []bool{false, true} {
			see := func(i, j int) bool { return !causal || br(i, j) }
			add(fmt.Sprintf("scores weigh %v %v", s, causal), [][2]int{{s[0], 3}, {s[1], 3}, {s[1], 4}},
				func(t *Tape, v []Var) Var { return t.Weigh(t.Softmax(t.Scores(v[0], v[1], causal)), v[2], causal) },
				func(m []mat64) mat64 { return mul64(softmax64(mul64(m[0], t64(m[1]), nil), see), m[2], see) })
		}
	}
	add("shapes", [][2]int{{4, 6}, {3, 4}}, func(t *Tape, v []Var) Var {
		a := t.Transpose(v[0])                                        // 6×4
		b := t.ConcatRows(t.SliceRows(a, 1, 4), v[1])                 // 6×4
		c := t.ConcatCols(b, t.SliceCols(a, 1, 3))                    // 6×6
		return t.Gather(t.Reshape(c, 12, 3), []int32{0, 11, 5, 0, 3}) // 5×3
	}, func(m []mat64) mat64 {
		a, c := t64(m[0]), zeros64(6, 6)
		for i := range 6 {
			for j := range 6 {
				switch {
				case j >= 4:
					c.x[i*6+j] = a.at(i, j-3)
				case i < 3:
					c.x[i*6+j] = a.at(i+1, j)
				default:
					c.x[i*6+j] = m[1].at(i-3, j)
				}
			}
		}
		o := zeros64(0, 3)
		for _, i := range []int{0, 11, 5, 0, 3} {
			o.x = append(o.x, c.x[i*3:i*3+3]...)
		}
		return o
	})
	add("cumsum", [][2]int{{6, 3}}, func(t *Tape, v []Var) Var { return t.Cumsum(v[0]) }, func(m []mat64) mat64 {
		o := mat64{6, 3, append([]float64(nil), m[0].x...)}
		for i := 3; i < 18; i++ {
			o.x[i] += o.x[i-3]
		}
		return o
	})
	add("sumcols", [][2]int{{6, 5}}, func(t *Tape, v []Var) Var { return t.SumCols(v[0]) }, func(m []mat64) mat64 {
		o := zeros64(6, 1)
		for i, x := range m[0].x {
			o.x[i/5] += x
		}
		return o
	})
	add("mean", [][2]int{{6, 5}}, func(t *Tape, v []Var) Var { return t.Mean(v[0]) }, func(m []mat64) mat64 {
		s := 0.0
		for _, x := range m[0].x {
			s += x / 30
		}
		return mat64{1, 1, []float64{s}}
	})
	back := []int32{0, 1, 2, 3, 4, 0, 1, 0, 1, 2}
	add("shortconv", [][2]int{{10, 3}, {4, 3}, {1, 3}}, func(t *Tape, v []Var) Var { return t.ShortConv(v[0], v[1], v[2], back) }, func(m []mat64) mat64 {
		o := zeros64(10, 3)
		for i := range 10 {
			for c := range 3 {
				o.x[i*3+c] = m[2].x[c]
				for j := 0; j < 4 && j <= int(back[i]); j++ {
					o.x[i*3+c] += m[1].at(j, c) * m[0].at(i-j, c)
				}
			}
		}
		return o
	})
	add("tokenshift", [][2]int{{10, 3}, {1, 3}}, func(t *Tape, v []Var) Var { return t.TokenShift(v[0], v[1], back) }, func(m []mat64) mat64 {
		o := zeros64(10, 3)
		for i := range 10 {
			for c := range 3 {
				p := 0.0
				if back[i] > 0 {
					p = m[0].at(i-1, c)
				}
				x := m[0].at(i, c)
				o.x[i*3+c] = x + m[1].x[c]*(p-x)
			}
		}
		return o
	})
	for _, pair := range []attn.Pairing{attn.Halves, attn.Neighbours} {
		table := &RopeTable{Rope: attn.Rope{Dims: 4, Pairing: pair}, Width: 5}
		pos := []int32{3, 0, 7}
		add(fmt.Sprintf("rope %d", pair), [][2]int{{3, 10}}, func(t *Tape, v []Var) Var { return t.Rope(v[0], table, pos) }, func(m []mat64) mat64 {
			return ropeRef(m[0], 5, 2, pos, pair)
		})
	}
	for _, s := range []float64{0, 0.2} {
		labels := []int32{2, -1, 0, 4, -1}
		add(fmt.Sprintf("cross-entropy %v", s), [][2]int{{5, 6}}, func(t *Tape, v []Var) Var { return t.CrossEntropy(v[0], labels, float32(s)) }, func(m []mat64) mat64 {
			total := 0.0
			for i, l := range labels {
				if l < 0 {
					continue
				}
				lse, mean := 0.0, 0.0
				for c := range 6 {
					lse += math.Exp(m[0].at(i, c))
					mean += m[0].at(i, c) / 6
				}
				lse = math.Log(lse)
				total += (1-s)*(lse-m[0].at(i, int(l))) + s*(lse-mean)
			}
			return mat64{1, 1, []float64{total / 3}}
		})
	}
	return append(cs, recurCases()...)
}

func TestGradients(t *testing.T) {
	tape := NewTape(attn.NewWorkspace())
	for n, c := range append(gradCases(), lstmCases()...) {
		r := rand.New(rand.NewPCG(uint64(n), 7))
		var in []mat64
		var data, grad [][]float32
		for _, s := range c.shapes {
			m := zeros64(s[0], s[1])
			d, g := make([]float32, len(m.x)), make([]float32, len(m.x))
			for i := range d {
				d[i] = float32(r.NormFloat64())
				if math.Abs(float64(d[i])) < 0.01 { // away from ReLU's corner
					d[i] = 0.5
				}
				m.x[i], g[i] = float64(d[i]), 1 // a gradient that is there already stays
			}
			in, data, grad = append(in, m), append(data, d), append(grad, g)
		}
		want := c.ref(in)
		w := make([]float32, len(want.x))
		for i := range w {
			w[i] = float32(r.NormFloat64())
		}
		loss64 := func() float64 {
			s := 0.0
			for i, x := range c.ref(in).x {
				s += x * float64(w[i])
			}
			return s
		}
		tape.Reset()
		var vars []Var
		for i, s := range c.shapes {
			vars = append(vars, tape.Input(data[i], grad[i], s[0], s[1]))
		}
		out := c.build(tape, vars)
		rows, cols := tape.Dims(out)
		if rows*cols != len(want.x) {
			t.Errorf("%s: result of %d×%d: want %d elements", c.name, rows, cols, len(want.x))
			continue
		}
		// A sum rounds by the size of its terms, which an element that comes out small does not show: the largest does.
		size := 1.0
		for _, x := range want.x {
			size = max(size, math.Abs(x))
		}
		for i, x := range tape.Value(out) {
			if e := math.Abs(float64(x) - want.x[i]); !(e <= 2e-6*min(size, 10+math.Abs(want.x[i]))) {
				t.Errorf("%s: element %d is %v: want %v", c.name, i, x, want.x[i])
				break
			}
		}
		loss := tape.Sum(tape.Mul(out, tape.Const(w, rows, cols)))
		if err := tape.Backward(loss); err != nil {
			t.Fatal(err)
		}
	inputs:
		for k, m := range in {
			for i := 0; i < len(m.x); i += max(1, len(m.x)/61) {
				const h = 1e-5
				x := m.x[i]
				m.x[i] = x + h
				up := loss64()
				m.x[i] = x - h
				down := loss64()
				m.x[i] = x
				want := (up-down)/(2*h) + 1
				if e := math.Abs(float64(grad[k][i]) - want); !(e <= 2e-5*(1+math.Abs(want))) {
					t.Errorf("%s: gradient of input %d, element %d is %v: want %v", c.name, k, i, grad[k][i], want)
					break inputs
				}
			}
		}
	}
}

var (
	stepTokens = []int32{3, 1, 4, 1, 5, 0, 2, 6}
	stepLabels = []int32{1, 4, 1, 5, -1, 2, 6, 3}
)
