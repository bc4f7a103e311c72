package task

import (
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func ones(tokens []int32) int32 {
	n := int32(0)
	for _, x := range tokens {
		if x == 1 {
			n++
		}
	}
	return n
}

func TestParity(t *testing.T) {
	xor := func(tokens []int32) int32 { return ones(tokens) % 2 }
	solved(t, "parity:eval=50", xor)
	solved(t, "parity:running=true,eval=20", xor)
	rapid.Check(t, func(t *rapid.T) {
		o := Parity{Trained: rapid.IntRange(1, 50).Draw(t, "trained"), Running: rapid.Bool().Draw(t, "running"), Eval: 1}
		o.Length = o.Trained << rapid.IntRange(0, 3).Draw(t, "doublings")
		k, err := o.New()
		if err != nil {
			t.Fatal(err)
		}
		b := k.Train(rapid.Uint64().Draw(t, "seed"), rapid.IntRange(0, 1e6).Draw(t, "step"), 2)
		for r := range b.Rows {
			tokens, labels := b.Row(r)
			end := slices.Index(tokens, paritySign)
			for i, l := range labels {
				want := int32(-1)
				if o.Running || i == end {
					want = xor(tokens[:i+1])
				}
				if l != want || i > end && end >= 0 && tokens[i] != parityPad {
					t.Fatalf("token %d, label %d at %d: want %d; %v", tokens[i], l, i, want, tokens)
				}
			}
			if o.Running != (end < 0) || end == 0 {
				t.Fatalf("sign at %d of %v", end, tokens)
			}
		}
	})
	// Every number of bits is trained, and half of the labels are 1.
	b := mustNew(t, "parity:trained=8,length=8").Train(1, 0, 4000)
	var bits [9]int
	sum := 0
	for r := range b.Rows {
		tokens, labels := b.Row(r)
		end := slices.Index(tokens, paritySign)
		bits[end]++
		sum += int(labels[end])
	}
	for n := 1; n <= 8; n++ {
		if math.Abs(float64(bits[n])-500) > 4.5*math.Sqrt(500*7/8.) {
			t.Errorf("%d rows of %d bits: want 500", bits[n], n)
		}
	}
	if math.Abs(float64(sum)-2000) > 4.5*math.Sqrt(1000) {
		t.Errorf("%d labels are 1: want 2000", sum)
	}
}

func TestAdding(t *testing.T) {
	o := Adding{Length: 128, Levels: 10, Eval: 1000}
	solver := func(o Adding) func(tokens []int32) int32 {
		return func(tokens []int32) int32 {
			sum := int32(o.sums())
			for _, x := range tokens[:len(tokens)-1] {
				sum += x / int32(o.Levels) * (x % int32(o.Levels))
			}
			return sum
		}
	}
	solved(t, "adding", solver(o))
	v := answers(t, mustNew(t, "adding"), solver(o))
	if e := valueOf(v, "squared-error"); e.Value != 0 || e.Count != 1000 {
		t.Errorf("right answers: %+v: want 0 of 1000", e)
	}
	// Who always answers 1 gets the variance of the sum, 11/54.
	v = answers(t, mustNew(t, "adding"), func([]int32) int32 { return int32(o.sums() + 9) })
	if e := valueOf(v, "squared-error"); math.Abs(e.Value-11./54) > 0.025 {
		t.Errorf("always 1: %+v: want %.4f", e, 11./54)
	}
	rapid.Check(t, func(t *rapid.T) {
		o := Adding{Length: rapid.IntRange(2, 60).Draw(t, "length"), Levels: rapid.IntRange(2, 30).Draw(t, "levels"), Eval: 1}
		k, err := o.New()
		if err != nil {
			t.Fatal(err)
		}
		b := k.Train(rapid.Uint64().Draw(t, "seed"), rapid.IntRange(0, 1e6).Draw(t, "step"), 1)
		var marked []int
		for i, x := range b.Tokens[:o.Length] {
			if int(x) >= o.Levels {
				marked = append(marked, i)
			}
		}
		if len(marked) != 2 || marked[0] >= o.Length/2 || marked[1] < o.Length/2 || scored(b.Labels) != 1 || b.Labels[o.Length] != solver(o)(b.Tokens) {
			t.Fatalf("marked %v, labels %v: %v", marked, b.Labels, b.Tokens)
		}
	})
	for _, c := range []struct{ spec, want string }{
		{"adding:length=1", "option length=1"}, {"adding:levels=1", "option levels=1"}, {"parity:length=100", "option length=100: want trained, 32, times"}, {"parity:trained=0", "option trained=0"},
	} {
		if _, err := New(c.spec); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v: want %q", c.spec, err, c.want)
		}
	}
}
