package seq2seq_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"attnbench/autograd"
	"attnbench/model"
	"attnbench/model/seq2seq"
)

// script is a model of four tokens, 1 the beginning and 2 the end, whose logits depend on the number of tokens alone.
type script struct {
	seq2seq.Model
	steps [][]float32
	rows  int
}

type scriptState struct {
	seq2seq.State
	step int
}

func (*scriptState) Reorder([]int) error { return nil }
func (m *script) Vocab() int             { return 4 }
func (m *script) Start(_ *autograd.Tape, sources [][]int32, width int) (seq2seq.State, error) {
	m.rows = len(sources) * width
	return &scriptState{}, nil
}
func (m *script) Next(_ *autograd.Tape, s seq2seq.State, _ []int32) ([]float32, error) {
	x := s.(*scriptState)
	x.step++
	return slices.Repeat(m.steps[min(x.step, len(m.steps))-1], m.rows), nil
}

// TestSearchEdges: what beams and greedy choice make of logits that are no numbers, of impossible tokens, and of little room.
func TestSearchEdges(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	all := func(x float32) []float32 { return []float32{x, x, x, x} }
	for _, c := range []struct {
		name  string
		steps [][]float32
		l     seq2seq.Limits
		want  []int32
		score float64 // penalty 0
		ended bool
	}{
		{"equal: the lowest token", [][]float32{all(0)}, seq2seq.Limits{Extra: 2}, []int32{0, 0}, -2 * math.Log(4), false},
		{"nothing is a number", [][]float32{all(nan)}, seq2seq.Limits{Extra: 3}, nil, 0, false},
		{"nothing is possible", [][]float32{all(-inf)}, seq2seq.Limits{Extra: 3}, nil, 0, false},
		{"nothing is a number after one token", [][]float32{{0, -inf, -inf, -inf}, all(nan)}, seq2seq.Limits{Extra: 3}, []int32{0}, 0, false},
		{"one NaN among numbers", [][]float32{{nan, -inf, -inf, 5}, {nan, -inf, 5, -inf}}, seq2seq.Limits{Extra: 3}, []int32{3}, 0, true},
		{"a sure token", [][]float32{{0, 0, 0, inf}, {0, 0, inf, 0}}, seq2seq.Limits{Extra: 3}, []int32{3}, 0, true},
		{"two sure tokens", [][]float32{{inf, 0, 0, inf}, {0, 0, inf, 0}}, seq2seq.Limits{Extra: 3}, []int32{0}, -math.Log(2), true},
		{"the end at once", [][]float32{{-inf, -inf, 0, -inf}}, seq2seq.Limits{Extra: 3}, nil, 0, true},
		{"an end that never comes", [][]float32{{1, -inf, -inf, -inf}}, seq2seq.Limits{Extra: 3}, []int32{0, 0, 0}, 0, false},
		{"no room", [][]float32{all(0)}, seq2seq.Limits{Extra: -5}, nil, 0, false},
		{"room for one", [][]float32{{1, 0, 0, 0}}, seq2seq.Limits{Ratio: 1}, []int32{0}, 1 - math.Log(3+math.E), false},
		{"more room than an int has", [][]float32{{0, -inf, -inf, -inf}, {-inf, -inf, 0, -inf}}, seq2seq.Limits{Ratio: 1e300}, []int32{0}, 0, true},
	} {
		c.l.Begin, c.l.End = 1, 2
		for _, width := range []int{1, 2, 3, 9} {
			if width > 1 && c.name == "equal: the lowest token" || width > 1 && c.name == "room for one" {
				continue // an end lies among the best
			}
			got, err := seq2seq.Beam{Width: width}.Search(nil, &script{steps: c.steps}, [][]int32{{3}, {3}}, c.l)
			if err != nil {
				t.Errorf("%s, width %d: %v", c.name, width, err)
				continue
			}
			for _, g := range got {
				if !slices.Equal(g.Tokens, c.want) || math.Abs(g.Score-c.score) > 1e-6 || g.Ended != c.ended {
					t.Errorf("%s, width %d: %+v: want %d, score %v, ended %v", c.name, width, g, c.want, c.score, c.ended)
				}
			}
		}
		if len(c.want) > 0 && c.name != "nothing is a number after one token" {
			got, err := seq2seq.Sample(nil, &script{steps: c.steps}, [][]int32{{3}}, c.l, model.Sampler{}, 1)
			if err != nil || !slices.Equal(got[0], c.want) {
				t.Errorf("%s: greedy %d, %v: want %d", c.name, got, err, c.want)
			}
		}
	}
	for _, b := range []seq2seq.Beam{{Width: math.MaxInt}, {Width: 1, Penalty: math.NaN()}, {Width: 1, Penalty: math.Inf(1)}, {Width: 1, Penalty: -1}} {
		if _, err := b.Search(nil, &script{}, [][]int32{{3}}, limits); err == nil || !strings.Contains(err.Error(), "beam of width") {
			t.Errorf("%+v: error %v", b, err)
		}
	}
	for name, m := range models(t) { // sources of no tokens, and no sources
		tape := newTape()
		tape.NoGrad = true
		for _, sources := range [][][]int32{nil, {{}}, {{3}, {}}, {{-1}}, {{1 << 30}}} {
			out, err := seq2seq.Beam{Width: 2}.Search(tape, m, sources, limits)
			if err == nil && len(sources) > 0 {
				t.Errorf("%s: sources %d: %v: want an error", name, sources, out)
			}
			if _, err := seq2seq.Sample(tape, m, sources, limits, model.Sampler{}, 1); err == nil && len(sources) > 0 {
				t.Errorf("%s: sources %d, sampled: want an error", name, sources)
			}
		}
	}
}
