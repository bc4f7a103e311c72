package harness

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"attnbench/nn"
)

// Isos are the ways in which models of one comparison can be held to be of one size:
//
//	params  learned numbers within 10% of the first model's, or the comparison is refused
//	fit     the same, after the width of the MLPs is chosen so that they are near the first model's
//	state   bytes of the decoding state at the task's length within 10% of the first model's, or it is refused
//	none    anything goes
var Isos = []string{"params", "fit", "state", "none"}

// isoTolerance is how far a model's size may be from the first one's.
const isoTolerance = 0.1

// CheckIso compares the models that the recipe makes with the mechanisms, those that cannot be trained apart, and returns the recipe
// that is to be used. An error names the model that is off, and by how much.
func CheckIso(r Recipe, mechs []string, iso string) (Recipe, error) {
	if !slices.Contains(Isos, iso) {
		return r, fmt.Errorf("iso %q: want one of %s", iso, strings.Join(Isos, ", "))
	}
	if iso == "none" {
		return r, nil
	}
	first, firstMech := 0.0, ""
	for _, mech := range mechs {
		x, err := newRun(r, mech, 1)
		var none *Unsupported
		if errors.As(err, &none) {
			continue
		}
		if err != nil {
			return r, err
		}
		m, err := x.build()
		if err != nil {
			return r, err
		}
		what, size := "parameters", float64(nn.Count(m.Params()))
		if iso == "state" {
			if m.state < 0 {
				return r, fmt.Errorf("%s says no bytes of its state: want mechanisms that do, or another iso than state", mech)
			}
			what, size = "bytes of state", float64(m.state)
		}
		if firstMech == "" {
			first, firstMech = size, mech
			if iso == "fit" {
				r.Params = int(size)
			}
			continue
		}
		if off := size/first - 1; off > isoTolerance || off < -isoTolerance {
			return r, fmt.Errorf("%s has %.0f %s, %s %.0f, %+.1f%%: want within %.0f%%, or --iso fit (MLPs make up for it) or none", mech, size, what, firstMech, first, 100*off, 100*isoTolerance)
		}
	}
	return r, nil
}
