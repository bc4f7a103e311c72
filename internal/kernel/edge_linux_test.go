package kernel

import (
	"math/rand/v2"
	"syscall"
	"testing"
	"unsafe"
)

// atPageEnd returns n floats whose end is the end of a page before one that cannot be touched.
func atPageEnd(t *testing.T, n int) []float32 {
	page := syscall.Getpagesize()
	size := (4*n + page - 1) / page * page
	b, err := syscall.Mmap(-1, 0, size+page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Skip("mmap:", err)
	}
	t.Cleanup(func() { syscall.Munmap(b) })
	if err := syscall.Mprotect(b[size:], syscall.PROT_NONE); err != nil {
		t.Skip("mprotect:", err)
	}
	if n == 0 {
		return nil
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(&b[size-4*n])), n)
}

// TestPageEnd runs every primitive on slices that end at an unmapped page: a read beyond the end is a fault.
func TestPageEnd(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		buf := make([][]float32, 4)
		for i := range buf {
			buf[i] = atPageEnd(t, 40*40)
		}
		end := func(i, n int) []float32 { return buf[i][len(buf[i])-n:] }
		r := rand.New(rand.NewPCG(1, 1))
		for n := 1; n < 40; n++ {
			m, k := 1+r.IntN(39), 1+r.IntN(39)
			scale := end(3, n)
			Mul(m, n, k, Rows(end(0, m*k), k), Rows(end(1, k*n), n), Rows(end(2, m*n), n))
			MulScale(scale, m, n, k, Rows(end(0, m*k), m).T(), Rows(end(1, k*n), n), Rows(end(2, m*n), n))
			Dots(end(0, m), end(1, n), Rows(end(2, m*n), n), m)
			Combine(end(0, n), end(1, m), Rows(end(2, m*n), n))
			Update(Rows(end(2, m*n), n), end(0, m), end(1, m), end(3, n))
			Update(Rows(end(2, m*n), n), nil, end(1, m), end(3, n))
			rows := min(m, Lanes)
			Pack(end(0, n*Lanes), Rows(end(1, rows*n), n), rows, n, 1)
			Unpack(Rows(end(1, rows*n), n), end(0, n*Lanes), rows, n, end(2, rows))
			UnpackAdd(Rows(end(1, rows*n), n), end(0, n*Lanes), rows, n, nil)
			var s Softmax
			s.Reset()
			s.Step(end(0, n*Lanes), n)
			Weights(end(0, n*Lanes), n, end(1, Lanes))
			WeightsGrad(end(0, n*Lanes), end(2, n*Lanes), n, end(1, Lanes))
			s.LazyStep(end(0, n*Lanes), n)
			a, b, p, q := Rows(end(0, n*k), k), Rows(end(1, k*Lanes), Lanes), end(2, n*Lanes), end(3, n*Lanes)
			s.Reset()
			s.MulPowers(n, k, a, b, p, false)
			MulWeights(n, k, a, b, p, end(3, Lanes))
			MulWeightsGrad(n, k, a, b, p, q, end(1, Lanes))
			MulAddTwo(n, m, p, q, Rows(end(0, Lanes*m), m), Rows(end(0, Lanes*m), m), Rows(end(1, n*m), m))
			ELU1(Rows(end(0, m*n), n), Rows(end(1, m*n), n), m, n)
			ExpRows(Rows(end(0, m*n), n), Rows(end(1, m*n), n), m, n)
			ReLU(Rows(end(0, m*n), n), Rows(end(1, m*n), n), m, n)
			Lost(Rows(end(0, m*n), n), Rows(end(1, m*n), n), m, n)
			Squares(Rows(end(0, n*(n+1)), n*(n+1)/2), Rows(end(1, 2*n), n), 1, 2, n)
			CopyFinite(Rows(end(0, m*n), n), Rows(end(1, m*n), n), m, n)
			PackELU1(end(0, n*Lanes), end(2, n), Rows(end(1, rows*n), n), rows)
			ScaleRows(end(0, m), Rows(end(1, m*n), n), n)
			TimesRows(end(0, n), Rows(end(1, m*n), n), m)
			Lower(end(0, m), Rows(end(1, m*n), n), k, n)
			Decay(Rows(end(1, m*n), n), end(0, m), end(2, m), n)
			Cumulate(end(0, n), Rows(end(1, m*n), n), Rows(end(2, m*n), n), m)
			MulAhead(nil, end(3, m), m, n, k, Rows(end(0, m*k), k), Rows(end(1, k*n), n), Rows(end(2, m*n), n))
			AdvanceAhead(nil, end(3, m), end(3, m), m, n, k, Rows(end(0, m*k), k), Rows(end(1, k*n), n), Rows(end(2, m*n), n))
			DecayWeights(Rows(end(0, 256), 16), Rows(end(1, 16*n), n), Rows(end(2, 16*n), n), end(3, (n-1)*Lanes+DecayBlock), n)
			x, y, z := end(0, n), end(1, n), end(2, n)
			Above(make([]uint64, 1), x, 0)
			ELU1Grad(x, y)
			FlushBelow(1, x)
			Axpy(1, x, y)
			Scale(0.5, x)
			Add(x, y)
			Times(x, y)
			AddTimes(x, y, z)
			Softplus(x, y)
			Sigmoid(x, y)
			SiLU(x, y)
			SiLUGrad(x, y, z)
			GELU(x, y)
			GELUGrad(x, y, z)
			AdamW(x, y, z, end(3, n), AdamWStep{LR: 1, Beta1: 0.9, Beta2: 0.9, Eps: 1, Step: 1})
			_ = Dot(x, y) + Sum(x) + SumSquares(y) + Max(x) + ExpSum(x, 1) + ReadLoop(y)
		}
	})
}
