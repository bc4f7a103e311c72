package task

import (
	"math"
	"os"
	"strings"
	"testing"

	"attnbench/model/ngram"
)

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
	m, err := ngram.Fit(ngram.WittenBell, 1, 256, ngram.None, ngram.Bytes(k.(*text).corpus.train))
	if err != nil {
		t.Fatal(err)
	}
	v, err := ScoreNGram(k, Test, m)
	if err != nil || math.Abs(v[0].Value-4.61) > 0.02 {
		t.Errorf("order 0: %v, %v: want 4.61", v, err)
	}
}
