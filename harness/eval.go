package harness

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"

	"attnbench/attn"
	"attnbench/autograd"
	"attnbench/model"
	"attnbench/results"
	"attnbench/task"
)

// Eval scores a trained model on a text with other mechanisms in place of its own.
type Eval struct {
	Model      *model.LM
	Checkpoint string // what names say of the model
	Tokens     []int32
	Text       string // what names say of the tokens

	// Prompt, unless 0, is how many tokens are taken in at once before the others are decoded one by one: what serving does, and the
	// only way to score a mechanism that keeps a part of what it has seen. 0 scores whole passes.
	Prompt int
	// Window and Stride cut a text that is longer than the model's context into passes, as task.Windows does. 0 means the context, and half of
	// the window.
	Window, Stride int
}

// fill sets the defaults and checks what does not depend on the mechanism.
func (e *Eval) fill() error {
	n := len(e.Tokens)
	if n < 2 {
		return fmt.Errorf("%d tokens: want at least 2, since the first is predicted by none", n)
	}
	for i, x := range e.Tokens {
		if x < 0 || int(x) >= e.Model.Config.Vocab {
			return fmt.Errorf("token %d is %d: want 0 to %d", i, x, e.Model.Config.Vocab-1)
		}
	}
	context := e.Model.Config.MaxLen
	if e.Window == 0 {
		e.Window = min(n, context)
	}
	if e.Stride == 0 {
		e.Stride = max(1, e.Window/2)
	}
	switch {
	case e.Window > context:
		return fmt.Errorf("window of %d tokens: want at most the model's context of %d", e.Window, context)
	case e.Prompt < 0 || e.Prompt >= n:
		return fmt.Errorf("prompt of %d tokens: want 0 to %d, fewer than the text has", e.Prompt, n-1)
	case e.Prompt > 0 && n > context:
		return fmt.Errorf("decoding %d tokens: want at most the model's context of %d", n, context)
	}
	_, err := task.Windows(n, e.Window, e.Stride)
	return err
}

// hash names model, tokens and protocol in result keys.
func (e *Eval) hash() string {
	h := sha256.New()
	c := e.Model.Config
	c.Attention, c.Seed = "", 0
	fmt.Fprintf(h, "%+v\nwindow=%d\nstride=%d\nprompt=%d\n", c, e.Window, e.Stride, e.Prompt)
	for _, p := range e.Model.Params() {
		fmt.Fprintln(h, p.Name, p.Shape)
		binary.Write(h, binary.LittleEndian, p.Data)
	}
	binary.Write(h, binary.LittleEndian, e.Tokens)
	return fmt.Sprintf("%.8x", h.Sum(nil))
}

// Jobs returns a cell for each mechanism or layer pattern. One that learns what the model does not have, or that cannot be scored in this way, is
// an error.
func (e *Eval) Jobs(mechs []string) ([]Job, error) {
	if err := e.fill(); err != nil {
		return nil, err
	}
	hash := e.hash()
	var jobs []Job
	for _, mech := range mechs {
		parts, err := attn.Pattern(mech)
		if err != nil {
			return nil, err
		}
		var revisions []string
		for _, p := range parts {
			m, err := attn.New(p)
			if err == nil {
				err = e.CanScore(m)
			}
			if err != nil {
				return nil, err
			}
			revisions = append(revisions, fmt.Sprint(m.Info().Revision))
		}
		mech := strings.Join(parts, "|")
		if _, err := e.Model.With(mech); err != nil {
			return nil, err
		}
		name := fmt.Sprintf("%v/task=eval:checkpoint=%s,text=%s/mech=%s/window=%d/stride=%d/prompt=%d",
			Accuracy, Word(e.Checkpoint), Word(e.Text), mech, e.Window, e.Stride, e.Prompt)
		config := append(Config(), results.Config{Key: "revision", Value: strings.Join(revisions, "|")}, results.Config{Key: "recipe", Value: hash})
		jobs = append(jobs, Job{
			Key: results.Key(name, config...), Name: name,
			Run: func(ctx context.Context) (results.Record, error) {
				m, err := e.Model.With(mech)
				if err != nil {
					return results.Record{}, err
				}
				values, err := e.score(ctx, m)
				if err != nil {
					return results.Record{}, fmt.Errorf("%s: %w", name, err)
				}
				return results.Record{Name: name, Iters: 1, Config: config, Values: values}, nil
			},
		})
	}
	return jobs, nil
}

// CanScore reports a mechanism that the protocol cannot score.
func (e *Eval) CanScore(m attn.Mechanism) error {
	info := m.Info()
	if info.Masks&attn.Causal == 0 {
		return unsupported("%s: mask is %v: want %v", info.Name, attn.Causal, info.Masks)
	}
	_, decodes := m.(attn.Incremental)
	switch {
	case e.Prompt > 0 && !decodes:
		return unsupported("%s: it does not decode: want no prompt", info.Name)
	case e.Prompt == 0 && decodes && info.Inference && info.Decode != attn.DecodeAlways:
		return unsupported("%s: one pass is not what it is for: want a prompt, after which it decodes", info.Name)
	}
	return nil
}

// Word makes s a part of a benchmark's name, or of a file's.
func Word(s string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || strings.ContainsRune(`/\,=:|"`, r) || r == 0x7f {
			return '_'
		}
		return r
	}, s)
}

// tally sums up predictions in float64.
type tally struct {
	nats          float64
	scored, right int
}

// score returns the mean loss of the tokens that the protocol scores, and the fraction that is the model's first choice.
func (e *Eval) score(ctx context.Context, m *model.LM) ([]results.Value, error) {
	t := autograd.NewTape(attn.NewWorkspace())
	t.NoGrad = true
	var sum tally
	err := e.passes(ctx, m, t, &sum)
	if err != nil {
		return nil, err
	}
	values := []results.Value{
		{Value: sum.nats / float64(sum.scored), Unit: "nats/token"},
		{Value: float64(sum.right) / float64(sum.scored), Unit: "accuracy"},
	}
	if state, read, ok := m.StateBytes(e.Window); ok {
		values = append(values, results.Value{Value: float64(state), Unit: "state-B"}, results.Value{Value: float64(read), Unit: "read-B"})
	}
	return values, nil
}

func (e *Eval) passes(ctx context.Context, m *model.LM, t *autograd.Tape, sum *tally) error {
	if e.Prompt > 0 {
		return e.decode(ctx, m, t, sum)
	}
	windows, err := task.Windows(len(e.Tokens), e.Window, e.Stride)
	if err != nil {
		return err
	}
	for _, w := range windows {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := w.To - w.From - 1
		labels, nll, best := make([]int32, n), make([]float32, n), make([]int32, n)
		for i := range labels {
			if labels[i] = e.Tokens[w.From+i+1]; w.From+i+1 < w.Score {
				labels[i] = autograd.Ignored
			}
		}
		if err := m.LossPerToken(t, e.Tokens[w.From:w.To-1], labels, 1, n, nll, best); err != nil {
			return err
		}
		for i, l := range labels {
			if l != autograd.Ignored {
				sum.add(float64(nll[i]), best[i] == l)
			}
		}
	}
	return nil
}

// decode takes in the prompt and scores each further token from the state before it.
func (e *Eval) decode(ctx context.Context, m *model.LM, t *autograd.Tape, sum *tally) error {
	s, err := m.NewState(1)
	if err != nil {
		return err
	}
	s.EndPrompt()
	for from, to := 0, e.Prompt; to < len(e.Tokens); from, to = to, to+1 {
		if err := ctx.Err(); err != nil {
			return err
		}
		logits, err := m.Extend(t, s, e.Tokens[from:to], to-from, nil)
		if err != nil {
			return err
		}
		next := e.Tokens[to]
		nll, right := predict(logits, int(next))
		if math.IsNaN(nll) {
			return errors.New("a logit is not a number")
		}
		sum.add(nll, right)
	}
	return nil
}

func (s *tally) add(nats float64, right bool) {
	s.nats += nats
	s.scored++
	if right {
		s.right++
	}
}

// predict returns -ln p(label) and whether the label is the most likely token, the lowest of equals.
func predict(logits []float32, label int) (nats float64, right bool) {
	best := 0
	for i, x := range logits {
		if x > logits[best] {
			best = i
		}
	}
	sum := 0.0
	for _, x := range logits {
		sum += math.Exp(float64(x) - float64(logits[best]))
	}
	return math.Log(sum) + float64(logits[best]) - float64(logits[label]), best == label
}
