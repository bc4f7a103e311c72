package task

import (
	"math"
	"testing"
)

// TestContext: by hand. Labels 1, 1, 2 after token 5 and 2 after token 6, of a vocabulary of 4: order 0 is (2 + 2/4)/(4 + 2) for 1 and for 2;
// after 5, where 1 came twice of three, (2 + 2·(5/12))/(3 + 2).
func TestContext(t *testing.T) {
	c := newContext(1, 4)
	for i, token := range []int32{5, 5, 5, 6} {
		c.learn([]int32{token}, []int32{1, 1, 2, 2}[i])
	}
	for _, x := range []struct {
		token, label int32
		p            float64
		best         int32
	}{
		{5, 1, (2 + 2*5./12) / 5, 1}, {5, 2, (1 + 2*5./12) / 5, 1}, {5, 3, 2 * (2 * .25 / 6) / 5, 1}, {6, 2, (1 + 5./12) / 2, 2}, {7, 1, 5. / 12, 1},
	} {
		nats, best := c.predict([]int32{x.token}, x.label)
		if math.Abs(math.Exp(-nats)-x.p) > 1e-12 || best != x.best {
			t.Errorf("label %d after %d: p %v, best %d: want %v, %d", x.label, x.token, math.Exp(-nats), best, x.p, x.best)
		}
	}
}

// TestContextTies: of equals the lowest, whatever the order of a map.
func TestContextTies(t *testing.T) {
	c := newContext(0, 40)
	for l := range int32(30) {
		c.learn([]int32{5}, 29-l)
	}
	for range 20 {
		if _, best := c.predict([]int32{5}, 1); best != 0 {
			t.Fatalf("best of 30 equals: %d: want 0", best)
		}
	}
}

// TestGeneratedBaselines: what needs no more than the last tokens, and what needs more.
func TestGeneratedBaselines(t *testing.T) {
	for _, c := range []struct {
		spec                     string
		order0, order2, order4   float64
		tolerance0, tolerance2up float64
	}{
		{"mad-memory:eval=200", 1. / 128, 1, 1, 0.02, 0},                                   // key and question
		{"induction:eval=300,length=64,trained=64", 1. / 15, 1. / 15, 1. / 15, 0.06, 0.06}, // nothing near the end tells
		{"parity:running=true,length=32,eval=50", 0.5, 0.5, 0.5, 0.1, 0.18},
		{"mad-fuzzy:eval=200", 0.16, 0.16, 0.16, 0.05, 0.08}, // training asks for padding and keys, too
		{"listops:min=20,max=100,depth=6,eval=300", 0.17, 0.17, 0.17, 0.08, 0.15},
	} {
		list, err := Baselines(mustNew(t, c.spec))
		if err != nil || len(list) < 3 {
			t.Fatalf("%s: %v, %v", c.spec, list, err)
		}
		for i, want := range []float64{c.order0, c.order2, c.order4} {
			tolerance := c.tolerance2up
			if i == 0 {
				tolerance = c.tolerance0
			}
			if v := list[i].Values[0]; v.Unit != "accuracy" || math.Abs(v.Value-want) > tolerance {
				t.Errorf("%s: %s %+v: want %.3f ± %.3f", c.spec, list[i].Name, v, want, tolerance)
			}
		}
	}
	if list, err := Baselines(mustNew(t, "mad-compress:eval=20")); err != nil || len(list) != 1 || list[0].Values[0].Value > 0.2 {
		t.Errorf("mad-compress: %v, %v: want the majority alone", list, err)
	}
}
