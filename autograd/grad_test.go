package autograd

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"

	"attnbench/attn"
)

// mat64 is a float64 matrix, what the references below compute on.
type mat64 struct {
	r, c int
	x    []float64
}

func (m mat64) at(i, j int) float64 { return m.x[i*m.c+j] }

func zeros64(r, c int) mat64 { return mat64{r, c, make([]float64, r*c)} }

func map64(m mat64, f func(x float64) float64) mat64 {
	o := zeros64(m.r, m.c)
	for i, x := range m.x {
		o.x[i] = f(x)
	}
	return o
}

func mul64(a, b mat64, f func(i, j int) bool) mat64 { // over keys j that f admits for row i
	o := zeros64(a.r, b.c)
	for i := range a.r {
		for j := range b.r {
			if f != nil && !f(i, j) {
				continue
			}
			for l := range b.c {
				o.x[i*b.c+l] += a.at(i, j) * b.at(j, l)
			}
		}
	}
	return o
}

func t64(a mat64) mat64 {
	o := zeros64(a.c, a.r)
	for i := range a.r {
		for j := range a.c {
			o.x[j*a.r+i] = a.at(i, j)
		}
	}
	return o
}

func bin64(a, b mat64, f func(x, y float64) float64) mat64 {
	o := zeros64(a.r, a.c)
	for i := range a.r {
		for j := range a.c {
			o.x[i*a.c+j] = f(a.at(i, j), b.at(i%b.r, j%b.c))
		}
	}
	return o
}

func sigma(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

func act64(a Activation, x float64) float64 {
	switch a {
	case SiLU:
		return x * sigma(x)
	case GELU:
		return x / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
	case ReLU:
		return max(x, 0)
	case Sigmoid:
		return sigma(x)
	case Tanh:
		return math.Tanh(x)
	case LogSigmoid:
		return -math.Log1p(math.Exp(-x))
	case Softplus:
		return math.Log1p(math.Exp(x))
	case Exp:
		return math.Exp(x)
	}
	return x
}

func softmax64(m mat64, see func(i, j int) bool) mat64 {
	o := zeros64(m.r, m.c)
	for i := range m.r {
		p := o.x[i*m.c : (i+1)*m.c]
		for j := range p {
			p[j] = math.Inf(-1)
			if see(i, j) {
				p[j] = m.at(i, j)
			}
		}
		attn.Softmax(p)
	}
	return o
}

func norm64(m mat64, width int, f func(x, y []float64)) mat64 {
	o := zeros64(m.r, m.c)
	for i := 0; i < len(m.x); i += width {
		f(m.x[i:i+width], o.x[i:i+width])
	}
	return o
}

type gradCase struct {
	name   string
	shapes [][2]int
	build  func(t *Tape, v []Var) Var
	ref    func(m []mat64) mat64
}

func bottomRight(rows, cols int) func(i, j int) bool {
	return func(i, j int) bool { return j <= i+cols-rows }
}

func gradCases() []gradCase {
	var cs []gradCase
	add := func(name string, shapes [][2]int, build func(t *Tape, v []Var) Var, ref func(m []mat64) mat64) {
		cs = append(cs, gradCase{name, shapes, build, ref})
	}
	all := []Activation{Identity, SiLU, GELU, ReLU, Sigmoid, Tanh, LogSigmoid, Softplus, Exp}
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
	return cs
}

func ropeRef(x mat64, width, pairs int, pos []int32, pair attn.Pairing) mat64 {
	o := mat64{x.r, x.c, append([]float64(nil), x.x...)}
	for i := range x.r {
		for h := 0; h < x.c; h += width {
			for p := range pairs {
				s, c := math.Sincos(float64(pos[i]) * math.Pow(10000, -float64(p)/float64(pairs)))
				l, r := i*x.c+h+p, i*x.c+h+p+pairs
				if pair == attn.Neighbours {
					l, r = i*x.c+h+2*p, i*x.c+h+2*p+1
				}
				o.x[l], o.x[r] = x.x[l]*c-x.x[r]*s, x.x[l]*s+x.x[r]*c
			}
		}
	}
	return o
}

func TestGradients(t *testing.T) {
	tape := NewTape(attn.NewWorkspace())
	for n, c := range gradCases() {
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
		for i, x := range tape.Value(out) {
			if e := math.Abs(float64(x) - want.x[i]); !(e <= 2e-6*(1+math.Abs(want.x[i]))) {
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
				if e := math.Abs(float64(grad[k][i]) - want); !(e <= 1e-5*(1+math.Abs(want))) {
					t.Errorf("%s: gradient of input %d, element %d is %v: want %v", c.name, k, i, grad[k][i], want)
					break inputs
				}
			}
		}
	}
}

// TestProductShapes holds the blocked product against plain sums around its block sizes.
func TestProductShapes(t *testing.T) {
	tape := NewTape(attn.NewWorkspace())
	r := rand.New(rand.NewPCG(1, 2))
	for _, s := range [][3]int{{1, 1, 1}, {1, 300, 5}, {7, 33, 257}, {8, 33, 513}, {65, 129, 256}, {130, 257, 31}, {64, 32, 0}} {
		m, n, k := s[0], s[1], s[2]
		a, b, bt := make([]float32, m*k), make([]float32, k*n), make([]float32, k*n)
		for i := range a {
			a[i] = float32(r.NormFloat64())
		}
		for i := range b {
			b[i] = float32(r.NormFloat64())
			bt[i%n*k+i/n] = b[i]
		}
		tape.Reset()
		va := tape.Const(a, m, k)
		plain := tape.Value(tape.MatMul(va, tape.Const(b, k, n)))
		trans := tape.Value(tape.MatMulT(va, tape.Const(bt, n, k)))
		for i := range m * n {
			sum := 0.0
			for p := range k {
				sum += float64(a[i/n*k+p]) * float64(b[p*n+i%n])
			}
			if math.Abs(float64(plain[i])-sum) > 1e-4 || math.Abs(float64(trans[i])-sum) > 1e-4 {
				t.Fatalf("%v: element %d: %v and %v: want %v", s, i, plain[i], trans[i], sum)
			}
		}
	}
}

var (
	stepTokens = []int32{3, 1, 4, 1, 5, 0, 2, 6}
	stepLabels = []int32{1, 4, 1, 5, -1, 2, 6, 3}
)

// step is a small training step through most operations.
func step(t *Tape, p []*Param) float32 {
	t.Reset()
	x := t.Gather(t.Param(p[0]), stepTokens)
	h := t.RMSNorm(x, t.Param(p[1]), 64, 1e-6)
	h = t.Linear(h, t.Param(p[2]), None, None, GELU)
	h = t.Dropout(h, 0.1, 42)
	x = t.Linear(h, t.Param(p[3]), None, x, Identity)
	loss := t.CrossEntropy(t.MatMulT(x, t.Param(p[0])), stepLabels, 0.1)
	t.Backward(loss)
	return t.Scalar(loss)
}

func stepParams() []*Param {
	p := []*Param{NewParam("embedding", true, 400, 64), NewParam("gain", false, 64), NewParam("up", true, 64, 300), NewParam("down", true, 300, 64)}
	r := rand.New(rand.NewPCG(3, 4))
	for _, p := range p {
		for i := range p.Data {
			p.Data[i] = float32(0.3 * r.NormFloat64())
		}
	}
	return p
}

func TestSameBitsAtAnyGOMAXPROCS(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	var first []*Param
	for _, procs := range []int{1, 2, 7} {
		runtime.GOMAXPROCS(procs)
		p := stepParams()
		step(NewTape(attn.NewWorkspace()), p)
		if first == nil {
			first = p
			continue
		}
		for i := range p {
			for j, g := range p[i].Grad {
				if g != first[i].Grad[j] {
					t.Fatalf("procs %d: gradient %d of %s is %v: want %v", procs, j, p[i].Name, g, first[i].Grad[j])
				}
			}
		}
	}
}

func TestStepAllocatesNothing(t *testing.T) {
	tape, p := NewTape(attn.NewWorkspace()), stepParams()
	for range 60 {
		step(tape, p)
	}
	bytes := tape.Bytes()
	if n := testing.AllocsPerRun(20, func() { step(tape, p) }); n > 0 {
		t.Errorf("%v heap allocations a step", n)
	}
	if tape.Bytes() != bytes {
		t.Errorf("bytes of a step: %d, then %d", bytes, tape.Bytes())
	}
	tape.Reset()
	if tape.Bytes() != 0 {
		t.Errorf("%d bytes after Reset", tape.Bytes())
	}
}
