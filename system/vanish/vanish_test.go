package vanish

import (
	"context"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	_ "attnbench/attn/all"
	"attnbench/nn"
	"attnbench/system"
)

// TestFit: gradients of an Elman network vanish, those of self-attention do not, and each value is one that Info describes.
func TestFit(t *testing.T) {
	o := Vanish{Distance: 32}
	var units []string
	for _, m := range o.Info().Metrics {
		units = append(units, m.Unit)
	}
	left := map[string]float64{} // of the gradient 32 tokens back, by that 4 tokens back
	for _, mech := range []string{"elman", "lstm", "full"} {
		f := system.Fit{Mech: mech, Seed: 1, Steps: 3}
		r, err := o.Fit(context.Background(), f)
		if err != nil {
			t.Fatal(err)
		}
		values := map[string]float64{}
		for _, v := range r.Values {
			if !slices.Contains(units, v.Unit) || v.Count == 0 || math.IsNaN(v.Value) || v.Value < 0 {
				t.Errorf("%s: %+v: want a described metric", mech, v)
			}
			values[v.Unit] = v.Value
		}
		for _, unit := range []string{"accuracy@32", "start-gradient@0", "gradient@0", "gradient@32"} {
			if _, ok := values[unit]; !ok {
				t.Errorf("%s: no %s", mech, unit)
			}
		}
		left[mech] = values["start-gradient@32"] / values["start-gradient@4"]
		if again, err := o.Fit(context.Background(), f); err != nil || !reflect.DeepEqual(again.Values, r.Values) {
			t.Errorf("%s: a second run gives %v, %v: want %v", mech, again.Values, err, r.Values)
		}
	}
	if !(left["elman"] < 1e-4 && left["elman"] < left["lstm"] && left["lstm"] < 0.1 && left["full"] > 0.2) {
		t.Errorf("of the gradient 4 tokens back %v is left 32 tokens back: want elman below lstm below full", left)
	}
}

func TestEqualParameters(t *testing.T) {
	k, err := defaults.task()
	if err != nil {
		t.Fatal(err)
	}
	n := map[string]float64{}
	for _, mech := range []string{"elman", "gru", "lstm", "full"} {
		m, _, err := defaults.model(mech, k.Info(), 1)
		if err != nil {
			t.Fatal(err)
		}
		n[mech] = float64(nn.Count(m.Params()))
		if math.Abs(n[mech]/n["elman"]-1) > 0.05 {
			t.Errorf("parameters %v: want them equal to within 5%%", n)
		}
	}
}

func TestErrors(t *testing.T) {
	if _, err := system.New("vanish:distance=100"); err == nil || !strings.Contains(err.Error(), "option distance=100") {
		t.Errorf("error %v: want the option named", err)
	}
	s, err := system.New("vanish:distance=4")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Fit(context.Background(), system.Fit{Mech: "jordan", Steps: 1}); err == nil || !strings.Contains(err.Error(), "elman, gru, lstm") {
		t.Errorf("error %v: want the models named", err)
	}
}
