package autograd

import (
	"math"
	"math/rand/v2"
	"runtime"
	"testing"

	"attnbench/attn"
)

// TestProductShapes holds the blocked product against plain sums around its block sizes.
func TestProductShapes(t *testing.T) {
	tape := NewTape(attn.NewWorkspace())
	r := rand.New(rand.NewPCG(1, 2))
	for _, s := range [][3]int{{1, 1, 1}, {1, 300, 5}, {7, 33, 257}, {8, 33, 513}, {65, 129, 256}, {130, 257, 31}, {64, 32, 0}, {100, 80, 300}} {
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
