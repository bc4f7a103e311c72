package tile

import (
	"fmt"

	"attnbench/attn"
)

// Admit reports why the call c, which has passed Check, cannot extend a state; for mechanisms that make the call's queries and keys
// from others, and are to refuse before.
func (r *Recurrence) Admit(s *RecurState, c *attn.Call) error {
	if err := s.admits(*r, c); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	return nil
}

// factor returns the factor of an output whose denominator is x.
func (r *Recurrence) factor(x float32) float32 {
	if x += r.Eps; r.Floor > 0 && x < r.Floor {
		x = r.Floor
	}
	if x != 0 {
		x = 1 / x
	}
	return x
}

// floored reports whether a factor is that of the floor, which no gradient passes.
func (r *Recurrence) floored(f float32) bool { return r.Floor > 0 && f == 1/r.Floor }
