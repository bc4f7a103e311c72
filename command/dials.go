package command

import (
	"fmt"
	"strconv"
	"strings"

	"attnbench/harness"
)

// dial is a number of a training that train sets by a flag of its name, and tune tries values of.
type dial struct {
	name, help string
	of         func(r *harness.Recipe) *float64
}

var dials = []dial{
	{"average", "decay a step of the mean of the weights that is scored; 0 for the last weights", func(r *harness.Recipe) *float64 { return &r.Train.Average }},
	{"decay", "decoupled weight decay, of projections alone", func(r *harness.Recipe) *float64 { return &r.Train.Decay }},
	{"clip", "largest norm of all gradients together; 0 for none", func(r *harness.Recipe) *float64 { return &r.Train.Clip }},
	{"dropout", "probability that an element of the embeddings and of what a sublayer adds is left out", func(r *harness.Recipe) *float64 { return &r.Model.Dropout }},
	{"stochastic-depth", "probability that a step leaves out the last layer, those before it in proportion", func(r *harness.Recipe) *float64 { return &r.Model.Skip }},
	{"smoothing", "of labels: what is spread over all tokens", func(r *harness.Recipe) *float64 { return &r.Model.Smoothing }},
}

func dialNames() string {
	var names []string
	for _, d := range dials {
		names = append(names, d.name)
	}
	return strings.Join(names, ", ")
}

// axis is a dial with the values to try.
type axis struct {
	dial
	values []float64
}

// parseAxis reads dropout=0,0.1.
func parseAxis(s string) (axis, error) {
	name, list, _ := strings.Cut(s, "=")
	for _, d := range dials {
		if d.name != name {
			continue
		}
		a := axis{dial: d}
		for _, w := range strings.Split(list, ",") {
			x, err := strconv.ParseFloat(w, 64)
			if err != nil {
				return a, fmt.Errorf("%s: value %q: want numbers between commas", s, w)
			}
			a.values = append(a.values, x)
		}
		return a, nil
	}
	return axis{}, fmt.Errorf("%s: %q: want one of %s", s, name, dialNames())
}
