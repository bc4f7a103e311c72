package train

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"

	"attnbench/attn"
	"attnbench/autograd"
)

func param(name string, decay bool, values ...float32) *autograd.Param {
	p := autograd.NewParam(name, decay, len(values))
	copy(p.Data, values)
	return p
}

func optimiser(t *testing.T, decay float64, params ...*autograd.Param) *Optimiser {
	t.Helper()
	o, err := NewAdamW(params)
	if err != nil {
		t.Fatal(err)
	}
	o.Decay = decay
	return o
}

func TestFirstStep(t *testing.T) {
	for _, c := range []struct {
		name         string
		decays       bool
		g            float32
		decay        float64
		rate         float64
		want, within float64
	}{
		{"zero gradient decays a matrix", true, 0, 0.5, 0.1, 0.95, 1e-7},
		{"but not a bias, a gain, an embedding", false, 0, 0.5, 0.1, 1, 0},
		{"decay apart from the gradient", true, 0.5, 0.01, 0.1, 0.899, 1e-7},
		{"no decay", false, 0.5, 0.01, 0.1, 0.9, 1e-7},
		{"a gradient as small as epsilon", false, 1e-8, 0, 0.1, 0.95, 1e-6},
		{"the other way for a negative one", false, -0.5, 0, 0.1, 1.1, 1e-6},
	} {
		p := param("w", c.decays, 1)
		o := optimiser(t, c.decay, p)
		p.Grad[0] = c.g
		o.Step(attn.NewWorkspace(), c.rate, 1)
		if got := float64(p.Data[0]); math.Abs(got-c.want) > c.within {
			t.Errorf("%s: %v: want %v", c.name, got, c.want)
		}
		if p.Grad[0] != 0 || o.Steps() != 1 {
			t.Errorf("%s: gradient %v left after %d steps: want 0 after 1", c.name, p.Grad[0], o.Steps())
		}
	}
}

// TestSteps holds some steps against the formula in float64.
func TestSteps(t *testing.T) {
	p := param("w", true, 1, -2, 3)
	o := optimiser(t, 0.1, p)
	o.Beta1, o.Beta2, o.Eps = 0.8, 0.95, 1e-6
	ws := attn.NewWorkspace()
	want, m, v := []float64{1, -2, 3}, make([]float64, 3), make([]float64, 3)
	for step := 1; step <= 20; step++ {
		rate := 0.01 * float64(step)
		for i := range want {
			p.Grad[i] = float32(math.Sin(float64(step*3 + i)))
			g := float64(p.Grad[i]) * 0.5
			m[i] = 0.8*m[i] + 0.2*g
			v[i] = 0.95*v[i] + 0.05*g*g
			s := float64(step)
			want[i] -= rate * (m[i]/(1-math.Pow(0.8, s))/(math.Sqrt(v[i]/(1-math.Pow(0.95, s)))+1e-6) + 0.1*want[i])
		}
		o.Step(ws, rate, 0.5)
	}
	for i := range want {
		if math.Abs(float64(p.Data[i])-want[i]) > 2e-6 {
			t.Errorf("element %d: %v: want %v", i, p.Data[i], want[i])
		}
	}
}

func TestTiedWeight(t *testing.T) {
	w := param("embedding", true, 1)
	head := &autograd.Param{Name: "head", Shape: []int{1}, Data: w.Data, Grad: w.Grad, Decay: true}
	o := optimiser(t, 0.5, w, head, w)
	o.Step(attn.NewWorkspace(), 0.1, 1)
	if w.Data[0] != 0.95 {
		t.Errorf("tied weight %v: want 0.95, one decay", w.Data[0])
	}
	for _, other := range []*autograd.Param{
		{Name: "head", Data: w.Data, Grad: make([]float32, 1), Decay: true},
		{Name: "head", Data: w.Data, Grad: w.Grad},
		{Name: "head", Data: make([]float32, 2), Grad: w.Grad},
	} {
		if _, err := NewAdamW([]*autograd.Param{w, other}); err == nil || !strings.Contains(err.Error(), "head") {
			t.Errorf("%+v beside the embedding: error %v", other, err)
		}
	}
}

func TestClipping(t *testing.T) {
	ws := attn.NewWorkspace()
	for _, c := range []struct {
		name  string
		g     []float32
		limit float64
		want  []float64
	}{
		{"over two tensors", []float32{3, 4}, 1, []float64{0.6, 0.8}},
		{"below the limit", []float32{0.3, 0.4}, 1, []float64{0.3, 0.4}},
		{"no limit", []float32{3, 4}, 0, []float64{3, 4}},
		{"all zero", []float32{0, 0}, 1, []float64{0, 0}},
		{"squares beyond float32", []float32{3e38, 3e38}, 1, []float64{math.Sqrt2 / 2, math.Sqrt2 / 2}},
		{"squares below float32", []float32{3e-30, 4e-30}, 1e-30, []float64{0.6e-30, 0.8e-30}},
	} {
		a, b := param("a", false, 0), param("b", false, 0)
		o := optimiser(t, 0, a, b)
		o.Beta1, o.Beta2 = 0, 0
		a.Grad[0], b.Grad[0] = c.g[0], c.g[1]
		norm, err := o.Norm(ws, 1)
		if err != nil {
			t.Fatal(err)
		}
		o.Step(ws, 0, ClipScale(norm, c.limit))
		for i, m := range o.m { // with β1 = 0 the first moment is the gradient that was used
			if math.Abs(float64(m[0])-c.want[i]) > 1e-6*c.want[i] {
				t.Errorf("%s: gradient %d is %v: want %v", c.name, i, m[0], c.want[i])
			}
		}
	}
}

func TestNonFiniteGradient(t *testing.T) {
	ws := attn.NewWorkspace()
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		a, b := param("a", false, 1), autograd.NewParam("layer.1.b", false, 3*blockSize)
		o := optimiser(t, 0, a, b)
		b.Grad[2*blockSize+5] = float32(bad)
		_, err := o.Norm(ws, 17)
		var e *NonFiniteError
		if !errors.As(err, &e) || e.Param != "layer.1.b" || e.Step != 17 {
			t.Errorf("%v: error %v: want one that names layer.1.b and step 17", bad, err)
		}
	}
}

// TestMomentsDoNotStaySubnormal: a parameter that gets no gradient any more ends with moments 0.
func TestMomentsDoNotStaySubnormal(t *testing.T) {
	p := param("w", false, 1)
	o := optimiser(t, 0, p)
	ws := attn.NewWorkspace()
	p.Grad[0] = 1
	for range 1200 {
		o.Step(ws, 0.001, 1)
	}
	if o.m[0][0] != 0 {
		t.Errorf("first moment %v after 1200 steps of silence: want 0", o.m[0][0])
	}
}

func TestSameBitsOnAnyCores(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	var want string
	for _, procs := range []int{1, 2, 7} {
		runtime.GOMAXPROCS(procs)
		p := autograd.NewParam("w", true, 5*blockSize+3)
		o := optimiser(t, 0.1, p)
		ws := attn.NewWorkspace()
		norms := []float64{}
		for step := range 3 {
			for i := range p.Grad {
				p.Grad[i] = float32(math.Sin(float64(i * (step + 1))))
			}
			n, err := o.Norm(ws, step)
			if err != nil {
				t.Fatal(err)
			}
			norms = append(norms, n)
			o.Step(ws, 0.01, ClipScale(n, 1))
		}
		got := fmt.Sprint(norms, slices.Max(p.Data), p.Data)
		if want == "" {
			want = got
		}
		if got != want {
			t.Errorf("other bits at GOMAXPROCS %d", procs)
		}
	}
}
