package linear

import (
	"math"
	"testing"
)

func TestForget(t *testing.T) {
	f := []float32{0, -1e-7, -1e-20, -0.001, -0.2499, -0.25, -0.2501, -1, -20, -200, float32(math.Inf(-1))}
	omega := make([]float32, len(f))
	forget(omega, f)
	for i, x := range f {
		if want := -math.Expm1(float64(x)); !(math.Abs(float64(omega[i])-want) <= 3e-7*want) {
			t.Errorf("1-e^%v: %v: want %v", x, omega[i], want)
		}
	}
	if forget(omega[:1], []float32{float32(math.NaN())}); omega[0] == omega[0] {
		t.Errorf("1-e^NaN: %v: want NaN", omega[0])
	}
}

func TestLog1p(t *testing.T) {
	for _, x := range []float32{-0.5, -0.49, -0.1, -1e-7, 0, 1e-30, 1e-7, 0.001, 0.3, 0.7, 1} {
		if got, want := float64(log1p(x)), math.Log1p(float64(x)); !(math.Abs(got-want) <= 3e-7*math.Abs(want)) {
			t.Errorf("log(1+%v): %v: want %v", x, got, want)
		}
	}
}
