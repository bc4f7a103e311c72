package autograd

import (
	"math"
	"math/rand/v2"
	"testing"

	"attnbench/attn"
)

func near(t *testing.T, what string, got []float32, want ...float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d numbers: want %d", what, len(got), len(want))
	}
	for i, w := range want {
		if !(math.Abs(float64(got[i])-w) < 1e-5) {
			t.Errorf("%s: element %d is %v: want %v", what, i, got[i], w)
		}
	}
}

func TestRopeIsKeyedByAbsolutePosition(t *testing.T) {
	tape := NewTape(attn.NewWorkspace())
	table := &RopeTable{Width: 2}
	x := []float32{1, 0, 1, 0, 1, 0, 1, 0}
	rows := func(pos ...int32) []float32 { return tape.Value(tape.Rope(tape.Const(x, 4, 2), table, pos)) }
	first := rows(0, 1, 2, 3)
	near(t, "position 3", first[6:], -0.989992, 0.141120)
	second := rows(3, 4, 5, 6)
	near(t, "position 3 after another offset", second[:2], -0.989992, 0.141120)
	if again := rows(0, 1, 2, 3); again[6] != first[6] || second[0] != first[6] || again[0] != 1 {
		t.Errorf("position 3 is %v, %v and %v: want the same bits", first[6:], second[:2], again[6:])
	}
}

func TestRopePairings(t *testing.T) {
	tape := NewTape(attn.NewWorkspace())
	x := tape.Const([]float32{1, 2, 3, 4}, 1, 4)
	pos := []int32{1}
	near(t, "neighbours", tape.Value(tape.Rope(x, &RopeTable{Rope: attn.Rope{Pairing: attn.Neighbours}, Width: 4}, pos)), -1.142640, 1.922076, 2.959851, 4.029800)
	near(t, "halves", tape.Value(tape.Rope(x, &RopeTable{Width: 4}, pos)), -1.984111, 1.959901, 2.462378, 4.019800)
}

func TestLabelSmoothingIgnoresIgnoredRows(t *testing.T) {
	tape := NewTape(attn.NewWorkspace())
	for _, rows := range []int{1, 2} {
		tape.Reset()
		logits, grad := []float32{2, 0, 0, 0, 10, 0, 0, 0}[:4*rows], make([]float32, 4*rows)
		loss := tape.CrossEntropy(tape.Input(logits, grad, rows, 4), []int32{0, Ignored}[:rows], 0.2)
		near(t, "loss", tape.Value(loss), 0.6407530)
		tape.Backward(loss)
		for _, g := range grad[4:] {
			if g != 0 {
				t.Errorf("gradient of an ignored row is %v", g)
			}
		}
	}
}

// TestMicroBatches: losses weighted by their share of labels add up to the loss of the whole, gradients too.
func TestMicroBatches(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	const rows, classes = 8, 5
	logits, labels := make([]float32, rows*classes), []int32{0, -1, 3, 4, -1, -1, 2, 1}
	for i := range logits {
		logits[i] = float32(r.NormFloat64())
	}
	tape := NewTape(attn.NewWorkspace())
	run := func(cuts ...int) (loss float64, grad []float32) {
		grad = make([]float32, len(logits))
		at := 0
		for _, n := range cuts {
			tape.Reset()
			count := 0
			for _, l := range labels[at : at+n] {
				if l != Ignored {
					count++
				}
			}
			part := tape.Input(logits[at*classes:(at+n)*classes], grad[at*classes:(at+n)*classes], n, classes)
			l := tape.Scale(tape.CrossEntropy(part, labels[at:at+n], 0), float32(count)/5)
			tape.Backward(l)
			loss += float64(tape.Scalar(l))
			at += n
		}
		return loss, grad
	}
	want, grad := run(8)
	for _, cuts := range [][]int{{4, 4}, {2, 2, 2, 2}, {3, 5}, {1, 1, 1, 1, 1, 1, 1, 1}} {
		loss, g := run(cuts...)
		if math.Abs(loss-want) > 1e-6 {
			t.Errorf("micro-batches %v: loss %v: want %v", cuts, loss, want)
		}
		for i := range g {
			if math.Abs(float64(g[i]-grad[i])) > 1e-6 {
				t.Errorf("micro-batches %v: gradient %d is %v: want %v", cuts, i, g[i], grad[i])
			}
		}
	}
}

// TestUnseenNaN: NaN in a token reaches, forward and backward, only what may see it.
func TestUnseenNaN(t *testing.T) {
	const queries, keys, d, bad = 70, 75, 3, 40
	nan := float32(math.NaN())
	for _, where := range []string{"q", "k", "v"} {
		in := map[string][]float32{"q": make([]float32, queries*d), "k": make([]float32, keys*d), "v": make([]float32, keys*d)}
		for _, x := range in {
			for i := range x {
				x[i] = float32(i%7) / 7
			}
		}
		in[where][bad*d] = nan
		tape := NewTape(attn.NewWorkspace())
		grads := [3][]float32{make([]float32, queries*d), make([]float32, keys*d), make([]float32, keys*d)}
		q, k, v := tape.Input(in["q"], grads[0], queries, d), tape.Input(in["k"], grads[1], keys, d), tape.Input(in["v"], grads[2], keys, d)
		out := tape.Weigh(tape.Softmax(tape.Scores(q, k, true)), v, true)
		tape.Backward(tape.Sum(out))
		saw := func(i int) bool { // does query i see the bad token, or is it the bad one
			if where == "q" {
				return i == bad
			}
			return bad <= i+keys-queries
		}
		for i := range queries {
			for e := range d {
				if x := tape.Value(out)[i*d+e]; x != x && !saw(i) {
					t.Fatalf("NaN in %s %d: output %d is NaN", where, bad, i)
				}
				if x := grads[0][i*d+e]; x != x && !saw(i) {
					t.Fatalf("NaN in %s %d: gradient of query %d is NaN", where, bad, i)
				}
			}
		}
		for j := range keys { // a later key is seen only by queries that see the bad one too
			for e := range d {
				for _, g := range grads[1:] {
					if x := g[j*d+e]; x != x && where == "q" && j > bad+keys-queries {
						t.Fatalf("NaN in q %d: gradient of key %d, which it does not see, is NaN", bad, j)
					}
				}
			}
		}
	}
}

func TestRowsThatSeeNothing(t *testing.T) {
	tape := NewTape(attn.NewWorkspace())
	x := func(n int) []float32 {
		s := make([]float32, n)
		for i := range s {
			s[i] = 1
		}
		return s
	}
	dq, dk, dv := make([]float32, 3), make([]float32, 1), make([]float32, 1)
	q, k, v := tape.Input(x(3), dq, 3, 1), tape.Input(x(1), dk, 1, 1), tape.Input(x(1), dv, 1, 1)
	out := tape.Weigh(tape.Softmax(tape.Scores(q, k, true)), v, true)
	near(t, "output", tape.Value(out), 0, 0, 1)
	tape.Backward(tape.Sum(out))
	near(t, "dq", dq, 0, 0, 0)
	near(t, "dk", dk, 0)
	near(t, "dv", dv, 1)
}

func TestDropout(t *testing.T) {
	tape := NewTape(attn.NewWorkspace())
	const n = 100000
	x, g := make([]float32, n), make([]float32, n)
	for i := range x {
		x[i] = 1
	}
	out := tape.Dropout(tape.Input(x, g, 1000, 100), 0.25, 3)
	y := append([]float32(nil), tape.Value(out)...)
	tape.Backward(tape.Sum(out))
	kept := 0
	for i := range y {
		if y[i] != g[i] || y[i] != 0 && math.Abs(float64(y[i])-4.0/3) > 1e-6 {
			t.Fatalf("element %d is %v with gradient %v: want 0 or 4/3, the same", i, y[i], g[i])
		}
		if y[i] != 0 {
			kept++
		}
	}
	if kept < 74000 || kept > 76000 {
		t.Errorf("%d of %d kept: want about 75000", kept, n)
	}
	tape.Reset()
	for i, v := range tape.Value(tape.Dropout(tape.Const(x, 1000, 100), 0.25, 3)) {
		if v != y[i] {
			t.Fatal("the same seed drops other elements")
		}
	}
	if v := tape.Const(x, 1000, 100); tape.Dropout(v, 0, 3) != v {
		t.Error("dropout of nothing makes a value")
	}
}

// TestMeasureEqualsTheRun: what Measure counts is what a run takes, forward and backward.
func TestMeasureEqualsTheRun(t *testing.T) {
	for _, c := range gradCases() {
		run := func(tape *Tape, dry bool) {
			var vars []Var
			for _, s := range c.shapes {
				data := make([]float32, s[0]*s[1])
				vars = append(vars, tape.Copy(data, s[1], s[0], s[1], true))
			}
			out := c.build(tape, vars)
			if g := tape.SeedGrad(out); (g == nil) != dry {
				t.Fatalf("%s: seed of %d numbers", c.name, len(g))
			}
			tape.BackwardAll()
		}
		ws := attn.NewWorkspace()
		tape := NewTape(ws)
		tape.Attach(ws)
		run(tape, false)
		dry := NewTape(nil)
		dry.Measure()
		run(dry, true)
		if dry.Peak() != ws.Peak() {
			t.Errorf("%s: measured %d bytes: a run takes %d", c.name, dry.Peak(), ws.Peak())
		}
	}
}

func TestReleaseKeepsTheValue(t *testing.T) {
	tape := NewTape(attn.NewWorkspace())
	tape.NoGrad = true
	x := tape.Scale(tape.Const([]float32{1, 2}, 1, 2), 1)
	bytes := tape.Bytes()
	for range 5 {
		m := tape.Mark()
		x = tape.Release(m, x, tape.AddScalar(tape.Scale(x, 2), 1))
	}
	near(t, "value", tape.Value(x), 63, 95)
	if tape.Bytes() != bytes {
		t.Errorf("%d bytes after five layers: want %d", tape.Bytes(), bytes)
	}
}
