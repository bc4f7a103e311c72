package translate

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"attnbench/autograd"
	"attnbench/model/seq2seq"
	"attnbench/text/metric"
	"attnbench/train"
)

// scores are the translations of the test set and what they are worth.
type scores struct {
	questions    []question
	translations []string
	bleu, chrf   metric.Result
	speed, state float64
}

// searchTokens bounds the source tokens, padding included, times the beam that are searched together.
const searchTokens = 1 << 16

func (x *translate) score(ctx context.Context, t *autograd.Tape, m seq2seq.Model, d *data, special seq2seq.Special) (*scores, error) {
	s := &scores{questions: d.questions(x.long())}
	s.translations = make([]string, len(s.questions))
	order := make([]int, len(s.questions))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return len(s.questions[b].in) - len(s.questions[a].in) }) // the longest first: memory grows once
	limits := seq2seq.Limits{Begin: special.Begin, End: special.End, Ratio: 1.5, Extra: 10, Most: x.mostTokens()}
	start, written, searches := time.Now(), 0, 0.0
	for len(order) > 0 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n := min(len(order), max(1, searchTokens/(len(s.questions[order[0]].in)*x.beam())), 64)
		var sources [][]int32
		for _, i := range order[:n] {
			sources = append(sources, s.questions[i].in)
		}
		watched := &stateWatch{Model: m}
		out, err := seq2seq.Beam{Width: x.beam(), Penalty: x.o.Penalty}.Search(t, watched, sources, limits)
		if err != nil {
			return nil, err
		}
		s.state += float64(watched.bytes()) / float64(n)
		searches++
		for j, i := range order[:n] {
			s.translations[i] = strings.ToValidUTF8(d.tokens.Decode(out[j].Tokens), "\ufffd")
			written += len(out[j].Tokens) + 1
		}
		order = order[n:]
	}
	s.speed, s.state = float64(written)/time.Since(start).Seconds(), s.state/searches
	var refs [][]string
	for _, q := range s.questions {
		refs = append(refs, q.refs)
	}
	var err error
	if s.bleu, err = metric.Evaluate(x.bleu(), s.translations, refs); err != nil {
		return nil, err
	}
	s.chrf, err = metric.Evaluate(metric.ChrF2, s.translations, refs)
	return s, err
}

// stateWatch is a model that keeps the state of its last search, which knows its bytes.
type stateWatch struct {
	seq2seq.Model
	state seq2seq.State
}

func (w *stateWatch) Start(t *autograd.Tape, sources [][]int32, width int) (seq2seq.State, error) {
	s, err := w.Model.Start(t, sources, width)
	w.state = s
	return s, err
}

func (w *stateWatch) bytes() int64 {
	if w.state == nil {
		return 0
	}
	return w.state.Bytes()
}

// write shows the scores and some translations to people.
func (s *scores) write(w io.Writer, mech string, r *train.Result) {
	fmt.Fprintf(w, "%s: %v\n%s: %v\n%s: %d target tokens in %d steps\n", mech, s.bleu, mech, s.chrf, mech, r.Tokens, r.Steps)
	const samples = 5
	for i := range min(samples, len(s.questions)) {
		q := s.questions[i*len(s.questions)/samples%len(s.questions)]
		fmt.Fprintf(w, "  source: %s\n  target: %s\n  %s: %s\n\n", clip(q.source), clip(q.refs[0]), mech, clip(s.translations[i*len(s.questions)/samples%len(s.questions)]))
	}
}

// clip keeps a sample to a few lines.
func clip(s string) string {
	const most = 400
	s = strings.ReplaceAll(s, joint, " / ")
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}
