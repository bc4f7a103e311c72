package train

import (
	"fmt"
	"math"
)

// Schedule is a learning rate by step: a linear warm-up to Peak over Warmup steps, then half a cosine that
// reaches Final at the last of Steps steps.
type Schedule struct {
	Peak, Final   float64
	Warmup, Steps int
}

func (s Schedule) check() error {
	switch {
	case !(s.Peak > 0) || math.IsInf(s.Peak, 0):
		return fmt.Errorf("learning rate %v: want a finite number above 0", s.Peak)
	case !(s.Final >= 0 && s.Final <= s.Peak):
		return fmt.Errorf("final learning rate %v: want 0 to the peak, %v", s.Final, s.Peak)
	case s.Steps < 0:
		return fmt.Errorf("%d steps: want at least 0", s.Steps)
	case s.Warmup < 0 || s.Warmup > s.Steps:
		return fmt.Errorf("warm-up of %d steps: want 0 to the number of steps, %d", s.Warmup, s.Steps)
	}
	return nil
}

// Rate returns the learning rate of a step, which count from 1: the first step already has a part of
// the warm-up's rate.
func (s Schedule) Rate(step int) float64 {
	if step <= s.Warmup {
		return s.Peak * float64(step) / float64(s.Warmup)
	}
	done := float64(step-s.Warmup) / float64(s.Steps-s.Warmup)
	return s.Final + (s.Peak-s.Final)*0.5*(1+math.Cos(math.Pi*min(done, 1)))
}
