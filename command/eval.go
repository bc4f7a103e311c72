package command

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"attnbench/attn"
	"attnbench/autograd"
	"attnbench/harness"
	"attnbench/internal/wholefile"
	"attnbench/model/public"
	"attnbench/results"

	"github.com/spf13/cobra"
)

func newEvalCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "eval --checkpoint DIR --tokens FILE",
		Short: "Score a trained model with other mechanisms in place of its own",
		Long: `Load a trained model, put each mechanism in place of the attention that it was trained with, and print its mean
loss on a text in nats a token, beside what the mechanism keeps of the context. The weights stay as they are: a mechanism that
learns tensors of its own cannot take part.

Checkpoints: a folder with config.json and model.safetensors (or shards with their index) of the Llama or GPT-2 family, or
one that train --save wrote; or a legacy file of llama2.c.

The text is scored in whole passes, each token once, in windows of the model's context that overlap by half. With --prompt N
it is decoded instead: the first N tokens are taken in at once, every further one is scored from the state before it. That is
the only way for a mechanism that keeps a part of the prompt, and what it keeps is then chosen without the tokens that are scored,
unless it says that it saw the question.`,
		Example: `  attnbench eval --checkpoint stories260k --tokens sample512.tsv --mech full,sliding:window=256,sinks=4
  attnbench eval --checkpoint stories260k --tokens sample512.tsv --mech full,sliding:window=64 --prompt 256 -o csv
  attnbench eval --checkpoint stories260k --greedy 256 --mech full,sliding:window=128,sinks=1`,
		Args: arguments(0, 0, "none"),
	}
	format := addFormat(cmd)
	var e evaluation
	f := cmd.Flags()
	f.StringVar(&e.path, "checkpoint", "", "folder or file of the model")
	f.StringVar(&e.tokens, "tokens", "", "file of tokens: a table with tabs and a column token, or numbers between blanks")
	f.StringVar(&e.text, "text", "", "file whose bytes are the tokens, in place of --tokens")
	f.Var(&e.mechs, "mech", "mechanisms or layer patterns, between commas; default all that the model's weights suffice for")
	f.IntVar(&e.eval.Prompt, "prompt", 0, "tokens to take in before the others are decoded one by one; 0 for whole passes")
	f.IntVar(&e.eval.Window, "window", 0, "tokens of a pass; default the model's context, or all if they are fewer")
	f.IntVar(&e.eval.Stride, "stride", 0, "tokens from one pass to the next; default half the window")
	f.IntVar(&e.greedy, "greedy", 0, "print so many tokens, each the most likely one, after those of the file or the token that a text begins with")
	f.StringVar(&e.out, "out", "", "file of results, made or gone on with; default none")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		e.cmd = cmd
		switch {
		case e.path == "":
			return usage(cmd, errors.New("no checkpoint: want --checkpoint with a folder or a file"))
		case e.tokens != "" && e.text != "":
			return usage(cmd, errors.New("--tokens and --text: want one of them"))
		case e.tokens == "" && e.text == "" && e.greedy == 0:
			return usage(cmd, errors.New("no text: want --tokens or --text with a file"))
		case e.greedy < 0 || e.greedy > 1<<20:
			return usage(cmd, fmt.Errorf("--greedy %d: want 0 to 2^20", e.greedy))
		case e.greedy > 0 && (e.out != "" || e.eval.Prompt != 0 || e.eval.Window != 0 || e.eval.Stride != 0):
			return usage(cmd, errors.New("--greedy with --out, --prompt, --window or --stride: want it alone, since it scores nothing"))
		}
		if err := e.load(); err != nil {
			return err
		}
		if e.greedy > 0 {
			return e.decode(format.Format)
		}
		return e.score(format.Format)
	}
	return cmd
}

// evaluation is what one eval command does.
type evaluation struct {
	cmd                     *cobra.Command
	path, tokens, text, out string
	mechs                   specsFlag
	greedy                  int
	eval                    harness.Eval
	begin                   int
}

// load reads model and tokens. Without --mech it finds the mechanisms that the model can take.
func (e *evaluation) load() error {
	d, err := e.decoder()
	if err != nil {
		return err
	}
	e.eval.Model, e.begin = d.LM, d.Begin
	e.eval.Checkpoint = strings.TrimSuffix(filepath.Base(filepath.Clean(e.path)), ".bin")
	if abs, err := filepath.Abs(e.path); err == nil && e.eval.Checkpoint == "." {
		e.eval.Checkpoint = filepath.Base(abs)
	}
	switch {
	case e.tokens != "":
		e.eval.Tokens, err = harness.ReadTokens(e.tokens)
		e.eval.Text = strings.TrimSuffix(filepath.Base(e.tokens), filepath.Ext(e.tokens))
	case e.text != "":
		e.eval.Tokens, err = e.bytes()
		e.eval.Text = filepath.Base(e.text)
	}
	return err
}

func (e *evaluation) bytes() ([]int32, error) {
	if v := e.eval.Model.Config.Vocab; v != 256 {
		return nil, fmt.Errorf("--text for a model of %d tokens: want one of the 256 bytes, or --tokens", v)
	}
	data, err := wholefile.Read(e.text)
	list := make([]int32, len(data))
	for i, b := range data {
		list[i] = int32(b)
	}
	return list, err
}

// decoder loads the model, with the first mechanism.
func (e *evaluation) decoder() (*public.Decoder, error) {
	if len(e.mechs) > 0 {
		return public.LoadDecoder(e.path, e.mechs[0])
	}
	var d *public.Decoder
	var first error
	for _, name := range harness.ExactFirst(attn.Names()) {
		m, err := attn.New(name)
		if err == nil {
			err = e.eval.CanScore(m)
		}
		switch {
		case err != nil:
		case d == nil:
			d, err = public.LoadDecoder(e.path, name)
		default:
			_, err = d.With(name)
		}
		if err == nil {
			e.mechs = append(e.mechs, name)
		} else if first == nil {
			first = err
		}
	}
	if d == nil {
		return nil, first
	}
	return d, nil
}

// score prints the table of losses.
func (e *evaluation) score(f results.Format) error {
	jobs, err := e.eval.Jobs(e.mechs)
	if err != nil {
		return err
	}
	set, err := e.collect(jobs)
	if err != nil {
		return err
	}
	s := &results.Sheet{
		Title:  fmt.Sprintf("%s, %d parameters, on the %d tokens of %s: mean loss", e.eval.Checkpoint, e.parameters(), len(e.eval.Tokens), e.eval.Text),
		Header: []string{"mech", "function", "saw the question", "nats/token", "accuracy", "state-B", "read-B"}, Left: 3,
		Notes: []string{e.protocol(), "state-B, read-B: what the decoding state of a window retains, and what one more token reads of it"},
	}
	if len(jobs) > 1 {
		s.Header = slices.Insert(s.Header, 4, "more than "+e.mechs[0])
	}
	base := math.NaN()
	for i, j := range jobs {
		for _, r := range set.Results {
			if string(r.Name) != j.Name {
				continue
			}
			loss, _ := r.Value("nats/token")
			if i == 0 {
				base = loss
			}
			right, _ := r.Value("accuracy")
			row := append(functions(e.mechs[i]), fmt.Sprintf("%.4f", loss), fmt.Sprintf("%.4f", right))
			for _, unit := range []string{"state-B", "read-B"} {
				cell := ""
				if v, ok := r.Value(unit); ok && f == results.CSV {
					cell = fmt.Sprintf("%.0f", v)
				} else if u, known := results.LookupUnit(unit); ok && known {
					cell = u.Format(v)
				}
				row = append(row, cell)
			}
			if len(jobs) > 1 {
				row = slices.Insert(row, 4, signed(loss-base))
			}
			s.Rows = append(s.Rows, row)
			break
		}
	}
	return s.Write(e.cmd.OutOrStdout(), f)
}

// signed writes a difference; one that rounds to 0 has a plus.
func signed(x float64) string {
	if math.Abs(x) < 5e-5 {
		x = 0
	}
	return fmt.Sprintf("%+.4f", x)
}

// collect runs the jobs, into and from the file unless there is none.
func (e *evaluation) collect(jobs []harness.Job) (*results.Set, error) {
	if e.out != "" {
		return collect(e.cmd, jobs, e.out)
	}
	show, done := progress(e.cmd.ErrOrStderr())
	var m harness.Memory
	o, err := harness.Sweep(e.cmd.Context(), jobs, &m, show)
	done()
	switch {
	case errors.Is(err, context.Canceled):
		return nil, errors.New("stopped: nothing was kept, without --out")
	case err != nil:
		return nil, err
	case len(o.Failed) > 0:
		return nil, o.Failed[0].Err
	}
	set := new(results.Set)
	return set, set.Add(m.Records...)
}

func (e *evaluation) parameters() int {
	n := 0
	for _, p := range e.eval.Model.Params() {
		n += len(p.Data)
	}
	return n
}

// protocol says how the text was scored.
func (e *evaluation) protocol() string {
	n := len(e.eval.Tokens)
	switch v := &e.eval; {
	case v.Prompt > 0:
		return fmt.Sprintf("decoded: a prompt of %d tokens, then %d scored one by one", v.Prompt, n-v.Prompt)
	case v.Window >= n:
		return fmt.Sprintf("one pass over the whole text; %d tokens scored", n-1)
	default:
		return fmt.Sprintf("passes over windows of %d tokens, %d apart; %d tokens scored", v.Window, v.Stride, n-1)
	}
}

// functions says of a mechanism or pattern what function it computes, and whether one that evicts saw the question.
func functions(mech string) []string {
	function, saw := "own", "-"
	parts, _ := attn.Pattern(mech)
	for _, p := range parts {
		m, err := attn.New(p)
		if err != nil {
			continue
		}
		info := m.Info()
		if info.Approximates {
			function = "approximates full"
		}
		if info.Inference {
			saw = map[bool]string{false: "no", true: "yes"}[info.SeesQuestion]
		}
	}
	return []string{strings.Join(parts, "|"), function, saw}
}

// decode prints the greedy tokens of each mechanism.
func (e *evaluation) decode(f results.Format) error {
	prompt := e.eval.Tokens
	if len(prompt) == 0 {
		if e.begin < 0 {
			return errors.New("the checkpoint names no token that a text begins with: want --tokens")
		}
		prompt = []int32{int32(e.begin)}
	}
	t := autograd.NewTape(attn.NewWorkspace())
	t.NoGrad = true
	s := &results.Sheet{
		Title:  fmt.Sprintf("%s: the most likely tokens after %d", e.eval.Checkpoint, len(prompt)),
		Header: append([]string{"position"}, e.mechs...), Rows: make([][]string, e.greedy),
	}
	for i := range s.Rows {
		s.Rows[i] = []string{fmt.Sprint(len(prompt) - 1 + i)}
	}
	var first []int32
	for _, mech := range e.mechs {
		m, err := e.eval.Model.With(mech)
		if err != nil {
			return err
		}
		list, err := m.Greedy(t, prompt, e.greedy)
		if err != nil {
			return err
		}
		same := 0
		for i, x := range list {
			s.Rows[i] = append(s.Rows[i], fmt.Sprint(x))
			if first != nil && same == i && first[i] == x {
				same++
			}
		}
		if first == nil {
			first = list
			continue
		}
		s.Notes = append(s.Notes, fmt.Sprintf("%s: the first %d of %d tokens are those of %s", mech, same, e.greedy, e.mechs[0]))
	}
	return s.Write(e.cmd.OutOrStdout(), f)
}
