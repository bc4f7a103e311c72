package model

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// Sampler chooses the next token from logits. The zero Sampler is greedy. One serves one goroutine.
type Sampler struct {
	Temperature float64 // divides the logits; 0 takes the most likely token, the lowest of equals
	TopK        int     // only the most likely so many; 0 for all
	TopP        float64 // of these only the most likely that together reach this probability (Holtzman et al. 2020, arXiv:1904.09751); 0 or 1 for all

	order []int32
	p     []float64
}

// Check reports an option that no sampling could have.
func (s *Sampler) Check() error {
	switch {
	case !(s.Temperature >= 0) || math.IsInf(s.Temperature, 0):
		return fmt.Errorf("temperature %v: want a finite number of at least 0", s.Temperature)
	case s.TopK < 0:
		return fmt.Errorf("top-k %d: want at least 0", s.TopK)
	case !(s.TopP >= 0 && s.TopP <= 1):
		return fmt.Errorf("top-p %v: want 0 to 1", s.TopP)
	}
	return nil
}

// Next returns a token drawn by r, which greedy choice leaves alone. A NaN is never chosen.
func (s *Sampler) Next(logits []float32, r *rand.Rand) int32 {
	best := 0
	for i, x := range logits {
		if x > logits[best] || logits[best] != logits[best] {
			best = i
		}
	}
	if s.Temperature == 0 {
		return int32(best)
	}
	s.order, s.p = s.order[:0], s.p[:0]
	for i, x := range logits {
		if x == x {
			s.order = append(s.order, int32(i))
		}
	}
	all := (s.TopK == 0 || s.TopK >= len(s.order)) && (s.TopP == 0 || s.TopP == 1)
	if !all { // the most likely first
		slices.SortFunc(s.order, func(a, b int32) int {
			return cmp.Or(cmp.Compare(logits[b], logits[a]), cmp.Compare(a, b))
		})
		if s.TopK > 0 {
			s.order = s.order[:min(s.TopK, len(s.order))]
		}
	}
	sum := 0.0
	for _, i := range s.order {
		p := 1.0 // of the best, also of an infinite one
		if logits[i] != logits[best] {
			p = math.Exp(float64(logits[i]-logits[best]) / s.Temperature)
		}
		s.p = append(s.p, p)
		sum += p
	}
	if !all && s.TopP > 0 {
		kept := 0.0
		for n, p := range s.p {
			if kept += p; kept >= s.TopP*sum {
				s.order, s.p, sum = s.order[:n+1], s.p[:n+1], kept
				break
			}
		}
	}
	u := r.Float64() * sum
	for n, p := range s.p {
		if u -= p; u < 0 {
			return s.order[n]
		}
	}
	return int32(best) // rounding, or no number at all
}
