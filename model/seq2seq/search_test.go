package seq2seq_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"attnbench/attn"
	"attnbench/autograd"
	"attnbench/model"
	"attnbench/model/seq2seq"
	"attnbench/train"

	"pgregory.net/rapid"
)

var limits = seq2seq.Limits{Begin: special.Begin, End: special.End, Ratio: 1, Extra: 4, Most: 12}

// TestBeamOneIsGreedy, over models with random weights, made sharper so that outputs end at various places.
func TestBeamOneIsGreedy(t *testing.T) {
	all := models(t)
	for _, name := range []string{"full", "linear", "post", "lstm"} {
		m := all[name]
		for _, p := range m.Params() {
			for i := range p.Data {
				p.Data[i] *= 2
			}
		}
		ended, cut := 0, 0
		rapid.Check(t, func(r *rapid.T) {
			sources := rapid.SliceOfN(rapid.SliceOfN(rapid.Int32Range(0, words-1), 1, 9), 1, 4).Draw(r, "sources")
			tape := newTape()
			tape.NoGrad = true
			greedy, err := seq2seq.Sample(tape, m, sources, limits, model.Sampler{}, 1)
			if err != nil {
				t.Fatal(err)
			}
			beam, err := seq2seq.Beam{Width: 1, Penalty: 0.6}.Search(tape, m, sources, limits)
			if err != nil {
				t.Fatal(err)
			}
			for i := range sources {
				if !slices.Equal(greedy[i], beam[i].Tokens) {
					r.Fatalf("%s: source %d: greedy %d, beam %d", name, i, greedy[i], beam[i].Tokens)
				}
				if want := min(12, len(sources[i])+4); beam[i].Ended != (len(greedy[i]) < want) {
					r.Fatalf("%s: source %d: ended %v with %d of %d tokens", name, i, beam[i].Ended, len(greedy[i]), want)
				}
				if beam[i].Ended {
					ended++
				} else {
					cut++
				}
			}
		})
		if cut == 0 {
			t.Errorf("%s: %d outputs ended, %d were cut", name, ended, cut)
		}
	}
}

// TestBeamIsExhaustive: a beam as wide as there are outputs finds the best of all, enumerated and scored by full computation.
func TestBeamIsExhaustive(t *testing.T) {
	const few, longest = 4, 3
	c := config()
	c.Words = few
	for seed := range uint64(6) {
		c.Seed = seed
		m, err := seq2seq.NewTransformer(c)
		if err != nil {
			t.Fatal(err)
		}
		tape := newTape()
		tape.NoGrad = true
		source := []int32{3, 0, 1}
		l := seq2seq.Limits{Begin: 1, End: 2, Extra: longest}
		for _, penalty := range []float64{0, 1} {
			best := seq2seq.Output{Score: math.Inf(-1)}
			var walk func(y []int32)
			walk = func(y []int32) {
				for _, ended := range []bool{true, false} {
					if ended == (len(y) == longest) {
						continue // an output of full length is cut, a shorter one ends
					}
					b := seq2seq.NewBatch([][]int32{source}, [][]int32{y}, seq2seq.Special{Begin: 1, End: 2})
					tape.Reset()
					v, err := m.Logits(tape, b)
					if err != nil {
						t.Fatal(err)
					}
					nll := make([]float32, len(b.Labels))
					tape.RowLosses(v, b.Labels, nll, nil)
					logp, n := 0.0, len(y)
					for _, x := range nll[:n] {
						logp -= float64(x)
					}
					if ended {
						logp -= float64(nll[n])
						n++
					}
					if s := logp / math.Pow(float64(5+n)/6, penalty); s > best.Score {
						best = seq2seq.Output{Tokens: slices.Clone(y), Score: s, Ended: ended}
					}
				}
				if len(y) < longest {
					for x := range int32(few) {
						if x != 2 {
							walk(append(slices.Clone(y), x))
						}
					}
				}
			}
			walk(nil)
			got, err := seq2seq.Beam{Width: 64, Penalty: penalty}.Search(tape, m, [][]int32{source, {1}}, l)
			if err != nil {
				t.Fatal(err)
			}
			if g := got[0]; !slices.Equal(g.Tokens, best.Tokens) || g.Ended != best.Ended || math.Abs(g.Score-best.Score) > 1e-5 {
				t.Errorf("seed %d, penalty %v: %+v: want %+v", seed, penalty, g, best)
			}
		}
	}
}

func TestSearchRefuses(t *testing.T) {
	m := models(t)["lstm"]
	tape := newTape()
	tape.NoGrad = true
	if _, err := (seq2seq.Beam{}).Search(tape, m, [][]int32{{3}}, limits); err == nil || !strings.Contains(err.Error(), "beam of width 0") {
		t.Errorf("a beam of no width: %v", err)
	}
	if _, err := seq2seq.Sample(tape, m, [][]int32{{3}}, limits, model.Sampler{TopP: 2}, 1); err == nil || !strings.Contains(err.Error(), "top-p 2") {
		t.Errorf("top-p 2: %v", err)
	}
	out, err := seq2seq.Beam{Width: 2}.Search(tape, m, [][]int32{{3}}, seq2seq.Limits{})
	if err != nil || len(out[0].Tokens) != 0 {
		t.Errorf("no room for an output: %v, %v", out, err)
	}
}

// TestSampleStreams: an output depends on the seed and its own number, not on what is sampled beside it.
func TestSampleStreams(t *testing.T) {
	m := models(t)["full"]
	tape := newTape()
	tape.NoGrad = true
	s := model.Sampler{Temperature: 1}
	sources := slices.Repeat([][]int32{{5, 6, 7}}, 3)
	all, err := seq2seq.Sample(tape, m, sources, limits, s, 7)
	if err != nil {
		t.Fatal(err)
	}
	first, err := seq2seq.Sample(tape, m, sources[:1], limits, s, 7)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(all[0], first[0]) || slices.Equal(all[0], all[1]) && slices.Equal(all[1], all[2]) {
		t.Errorf("outputs %d, alone %d: want the first equal, and not all", all, first)
	}
}

// TestLearnsToReverse: every kind of model learns, in seconds, to write a sequence backwards, which takes encoder, cross attention, positions and
// the end token; greedy and beam search then write it.
func TestLearnsToReverse(t *testing.T) {
	if testing.Short() {
		t.Skip("trains")
	}
	c := config()
	c.Dim, c.MLPWidth, c.Encoder, c.Decoder, c.Words = 32, 64, 1, 1, 10
	kinds := map[string]func() (seq2seq.Model, error){
		"lstm": func() (seq2seq.Model, error) {
			return seq2seq.NewLSTM(seq2seq.LSTMConfig{Words: 10, Dim: 32, Hidden: 32, Seed: 1})
		},
	}
	for _, norm := range []string{"pre", "post"} {
		for _, pos := range []string{"sinusoidal", "learned"} {
			c := c
			c.Norm, c.Positions = norm, pos
			kinds[norm+" "+pos] = func() (seq2seq.Model, error) { return seq2seq.NewTransformer(c) }
		}
	}
	pairs := func(step uint64, n int) (sources, targets [][]int32) {
		for i := range n {
			s := sentences(step*1000+uint64(i), 2+i%4)[0]
			for j := range s {
				s[j] = 3 + s[j]%7
			}
			y := slices.Clone(s)
			slices.Reverse(y)
			sources, targets = append(sources, s), append(targets, y)
		}
		return sources, targets
	}
	for name, build := range kinds {
		m, err := build()
		if err != nil {
			t.Fatal(err)
		}
		loss, right := fit(t, m, pairs)
		t.Logf("%s: loss %.3f, %d of 40 right", name, loss, right)
		if right < 36 {
			t.Errorf("%s: %d of 40 right after training, loss %.3f: want 36", name, right, loss)
		}
	}
}

func fit(t *testing.T, m seq2seq.Model, pairs func(uint64, int) (s, y [][]int32)) (loss float64, right int) {
	t.Helper()
	ws := attn.NewWorkspace()
	tape := autograd.NewTape(ws)
	opt, err := train.NewAdamW(m.Params())
	if err != nil {
		t.Fatal(err)
	}
	schedule := train.Schedule{Peak: 0.005, Warmup: 20, Steps: 350}
	for step := 1; step <= schedule.Steps; step++ {
		s, y := pairs(uint64(step), 24)
		tape.Reset()
		l, err := m.Loss(tape, seq2seq.NewBatch(s, y, special), 0, uint64(step))
		if err != nil {
			t.Fatal(err)
		}
		if err := tape.Backward(l); err != nil {
			t.Fatal(err)
		}
		norm, err := opt.Norm(ws, step)
		if err != nil {
			t.Fatal(err)
		}
		opt.Step(ws, schedule.Rate(step), train.ClipScale(norm, 1))
		loss = float64(tape.Scalar(l))
	}
	tape.NoGrad = true
	s, y := pairs(999999, 40)
	beam, err := seq2seq.Beam{Width: 3, Penalty: 0.6}.Search(tape, m, s, limits)
	if err != nil {
		t.Fatal(err)
	}
	greedy, err := seq2seq.Sample(tape, m, s, limits, model.Sampler{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	for i := range y {
		if slices.Equal(beam[i].Tokens, y[i]) && fmt.Sprint(greedy[i]) == fmt.Sprint(y[i]) {
			right++
		}
	}
	return loss, right
}
