package task

import (
	"math"
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestWittenBellByHand: after "abab", a (twice) and b (twice) are the 2 kinds that follow the empty context, and
// after a came b twice, one kind.
func TestWittenBellByHand(t *testing.T) {
	m := NewNGram([]byte("abab"), 2)
	p0 := (2 + 2.0/256) / 6
	p1 := (2 + 1*p0) / 3
	for _, c := range []struct {
		context string
		next    byte
		want    float64
	}{
		{"", 'a', p0},
		{"", 'z', 2.0 / 256 / 6},
		{"a", 'b', p1},
		{"a", 'a', p0 / 3},
		{"ba", 'b', (1 + 1*p1) / 2},
		{"za", 'b', p1}, // "za" never seen
		{"bz", 'a', p0}, // nor "z"
		{"aba", 'a', p0 / 3 / 2},
	} {
		if got := m.Prob([]byte(c.context), c.next); math.Abs(got-c.want) > 1e-15 {
			t.Errorf("p(%c | %q) = %v: want %v", c.next, c.context, got, c.want)
		}
	}
}

func TestPredictionsSumToOne(t *testing.T) {
	text, err := opticks()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*NGram{NewNGram(text[:50000], 4), NewNGram(nil, 3), NewNGram([]byte("x"), MaxOrder), NewNGram(text[:5000], 99)} {
		rapid.Check(t, func(t *rapid.T) {
			at := rapid.IntRange(0, len(text)-10).Draw(t, "at")
			context := append([]byte(nil), text[at:at+rapid.IntRange(0, 9).Draw(t, "length")]...)
			if len(context) > 0 && rapid.Bool().Draw(t, "unseen") {
				context[rapid.IntRange(0, len(context)-1).Draw(t, "where")] = rapid.Byte().Draw(t, "byte")
			}
			sum := 0.0
			for b := range 256 {
				p := m.Prob(context, byte(b))
				if p <= 0 || p > 1 {
					t.Fatalf("order %d: p(%d | %q) = %v", m.Order(), b, context, p)
				}
				sum += p
			}
			if math.Abs(sum-1) > 1e-12 {
				t.Fatalf("order %d: probabilities after %q sum to %v", m.Order(), context, sum)
			}
		})
	}
}

// TestOpticksBaselines holds the baselines against figures computed apart from this code.
func TestOpticksBaselines(t *testing.T) {
	list, err := Baselines(mustNew(t, "opticks"))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{"order-0": 4.51, "order-2": 2.85, "order-4": 2.19}
	if len(list) != len(want) {
		t.Errorf("%d baselines: want %d", len(list), len(want))
	}
	for _, b := range list {
		v := b.Values[0]
		t.Logf("%s: %.4f %s over %d", b.Name, v.Value, v.Unit, v.Count)
		if v.Unit != "bits/byte" || math.Abs(v.Value-want[b.Name]) > 0.02 || v.Count != 56719 {
			t.Errorf("%s: %+v: want %.2f bits/byte over 56719 bytes", b.Name, v, want[b.Name])
		}
	}
	if list, err := Baselines(mustNew(t, "mqar")); list != nil || err != nil {
		t.Errorf("mqar: baselines %v, %v: want none", list, err)
	}
}

func TestBooks(t *testing.T) {
	const folder = "/work/shared/data/books"
	if _, err := os.Stat(folder); err != nil {
		t.Skipf("no books here: %v", err)
	}
	k := mustNew(t, "books:path="+folder)
	// 10 books for training, 2 and 3 for the others, a zero byte between two.
	want := "train 9504748, valid 507552, test 2044796 bytes"
	if got := k.Info().Data; !strings.HasPrefix(got, want) {
		t.Errorf("data %q: want %q", got, want)
	}
	if testing.Short() {
		return
	}
	// The folder's README gives 4.61 for order 0 on all of test.
	v, err := scorePredictor(k.(*text), Test, NewNGram(k.(*text).corpus.train, 0))
	if err != nil || math.Abs(v[0].Value-4.61) > 0.02 {
		t.Errorf("order 0: %v, %v: want 4.61", v, err)
	}
}
