package train

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Schedule is a learning rate by step: a linear warm-up to Peak over Warmup steps, then what Kind says until the last of
// Steps steps.
type Schedule struct {
	Peak, Final   float64
	Warmup, Steps int
	Kind          string // one of Schedules; empty for cosine
}

// Schedules are the kinds of schedule:
//
//	cosine        half a cosine from Peak to Final
//	linear-decay  a line from Peak to Final
//	constant      Peak
//	inverse-sqrt  Peak·√(Warmup/step), with Warmup at least 1 (Vaswani et al. 2017, arXiv:1706.03762, eq. 3)
//	wsd           Peak until a fifth of the steps is left, then a line to Final (warm-up, stable, decay; Hu et al. 2024, arXiv:2404.06395)
var Schedules = []string{"cosine", "linear-decay", "constant", "inverse-sqrt", "wsd"}

func (s Schedule) check() error {
	switch {
	case !(s.Peak > 0) || math.IsInf(s.Peak, 0):
		return fmt.Errorf("learning rate %v: want a finite number above 0", s.Peak)
	case s.Peak > math.MaxFloat32:
		return fmt.Errorf("learning rate %v: want a number that float32 holds", s.Peak)
	case !(s.Final >= 0 && s.Final <= s.Peak):
		return fmt.Errorf("final learning rate %v: want 0 to the peak, %v", s.Final, s.Peak)
	case s.Steps < 0:
		return fmt.Errorf("%d steps: want at least 0", s.Steps)
	case s.Steps > maxSteps:
		return fmt.Errorf("%d steps: want at most %d", s.Steps, maxSteps)
	case s.Kind != "" && !slices.Contains(Schedules, s.Kind):
		return fmt.Errorf("schedule %q: want one of %s", s.Kind, strings.Join(Schedules, ", "))
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
	done := min(float64(step-s.Warmup)/float64(s.Steps-s.Warmup), 1)
	switch s.Kind {
	case "constant":
		return s.Peak
	case "linear-decay":
		return s.Peak + (s.Final-s.Peak)*done
	case "inverse-sqrt":
		return s.Peak * math.Sqrt(float64(max(s.Warmup, 1))/float64(step))
	case "wsd":
		left := max(1, s.Steps/5)
		return s.Peak + (s.Final-s.Peak)*max(0, float64(step-(s.Steps-left))/float64(left))
	}
	return s.Final + (s.Peak-s.Final)*0.5*(1+math.Cos(math.Pi*done))
}
