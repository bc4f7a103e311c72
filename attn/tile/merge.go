package tile

import "math"

// Merge replaces a, the result of attention over some keys, by the result over these and further
// keys that gave b, and returns its log-sum-exp. la and lb are the natural log-sum-exps of the
// scaled scores behind a and b, -Inf where no key was visible: a part without keys changes nothing,
// and two such parts give a as it was with -Inf.
func Merge(a []float32, la float64, b []float32, lb float64) float64 {
	if math.IsInf(lb, -1) {
		return la
	}
	if math.IsInf(la, -1) {
		copy(a, b)
		return lb
	}
	top := max(la, lb)
	wa, wb := math.Exp(la-top), math.Exp(lb-top)
	sum := wa + wb
	fa, fb := float32(wa/sum), float32(wb/sum)
	for i, y := range b[:len(a)] {
		a[i] = float32(a[i]*fa) + float32(y*fb)
	}
	return top + math.Log(sum)
}
