package command

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"attnbench/attn"
	"attnbench/autograd"
	"attnbench/explain"
	"attnbench/harness"
	"attnbench/model"
	"attnbench/results"

	"github.com/spf13/cobra"
)

func newExplainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain --checkpoint PATH --text TEXT",
		Short: "Show what the attention of a trained model looks at",
		Long: `Put a text through a trained model and show the weights of its attention: a heat map of every head beside the tokens, and for
one query the steps in numbers: similarities, normalised weights, the weighted sum.

Every mechanism is shown alike, by its effective weights: how much of value j is in output i, d out[i] / d v[j]. They are read off
exactly where the output is linear in the values, and come from the backward pass where it is not. Similarities are shown
where the weights prove to be a softmax of them.

The text of a model of bytes is its bytes. Other models want --vocabulary, unless their folder has a tokenizer.json: such a file, or a
table with tabs and columns token and piece. --tokens takes a file of tokens instead.`,
		Example: `  attnbench explain --checkpoint models/0123456789abcdef.ckpt --text 'The rays of light' --out rays
  attnbench explain --checkpoint stories260k --vocabulary stories260k/greedy.tsv --text ' Once upon a time' --mech linear
  attnbench explain --checkpoint stories260k --tokens few.txt --mech 'full|gla' --layer 1 --head 3 --query 5 -o markdown`,
		Args: arguments(0, 0, "none"),
	}
	format := addFormat(cmd)
	var e explanation
	f := cmd.Flags()
	f.StringVar(&e.path, "checkpoint", "", "trained model, as generate or eval reads it")
	f.StringVar(&e.mech, "mech", "", "mechanism or layer pattern; default the model's own")
	f.StringVar(&e.text, "text", "", "text to show")
	f.StringVar(&e.tokens, "tokens", "", "file of tokens to show, in place of --text")
	f.StringVar(&e.vocabulary, "vocabulary", "", "file of the model's tokens; default tokenizer.json beside the model")
	f.StringVar(&e.out, "out", "", "file of the figure, .png or .svg, or a name that gets both endings; default no figure")
	f.IntVar(&e.layer, "layer", -1, "layer of the figure and of the steps; default all in the figure, the first in the steps")
	f.IntVar(&e.query.Head, "head", 0, "head of the steps")
	f.IntVar(&e.query.Query, "query", -1, "token of the steps; default the last one")
	f.IntVar(&e.query.Keys, "keys", 16, "keys of the steps, those of the largest weights; 0 for all")
	f.IntVar(&e.query.Elements, "elements", 4, "elements of the values to show; 0 for all")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		switch {
		case e.path == "":
			return usage(cmd, errors.New("no checkpoint: want --checkpoint with a folder or a file"))
		case (e.text == "") == (e.tokens == ""):
			return usage(cmd, errors.New("--text and --tokens: want one of them"))
		case e.query.Keys < 0 || e.query.Elements < 0:
			return usage(cmd, fmt.Errorf("--keys %d, --elements %d: want at least 0", e.query.Keys, e.query.Elements))
		}
		return e.run(cmd, format.Format)
	}
	return cmd
}

// explanation is what one explain command does.
type explanation struct {
	path, mech, text, tokens, vocabulary, out string
	layer                                     int
	query                                     explain.Query
}

func (e *explanation) run(cmd *cobra.Command, f results.Format) error {
	m, begin, err := harness.LoadLM(e.path, e.mech)
	if err != nil {
		return err
	}
	ids, names, err := e.read(m, begin)
	if err != nil {
		return err
	}
	ws := attn.NewWorkspace()
	t := autograd.NewTape(ws)
	t.NoGrad = true
	calls, err := m.Calls(t, ids)
	if err != nil {
		return err
	}
	e.query.Layer = max(e.layer, 0)
	if e.query.Query < 0 {
		e.query.Query = len(ids) - 1
	}
	if e.layer < -1 || e.query.Layer >= len(calls) {
		return fmt.Errorf("layer %d: want 0 to %d", e.layer, len(calls)-1)
	}
	c := calls[e.query.Layer]
	if err := e.query.Check(len(calls), c); err != nil {
		return err
	}
	var layers []explain.Layer
	var steps *results.Sheet
	for i, c := range calls {
		if i != e.query.Layer && (e.out == "" || e.layer >= 0) {
			continue
		}
		if err := cmd.Context().Err(); err != nil {
			return err
		}
		w, err := explain.Find(ws, m.Mechanism(i), c)
		if err != nil {
			return err
		}
		layers = append(layers, explain.Layer{Number: i, Weights: w})
		if i == e.query.Layer {
			steps = explain.Steps(names, c, w, e.query)
		}
	}
	info := m.Mechanism(e.query.Layer).Info()
	checkpoint := checkpointName(e.path)
	steps.Title = fmt.Sprintf("%s, %s: layer %d, head %d, query %d %q", checkpoint, info.Name, e.query.Layer, e.query.Head, e.query.Query,
		explain.Label(names[e.query.Query]))
	if info.Inference && info.Decode != attn.DecodeAlways {
		steps.Notes = append(steps.Notes, "one pass over the whole text: what the mechanism would drop while decoding is not dropped")
	}
	if err := steps.Write(cmd.OutOrStdout(), f); err != nil || e.out == "" {
		return err
	}
	files, err := explain.WriteFigure(e.out, fmt.Sprintf("%s, %s: effective weights", checkpoint, m.Config.Attention), names, layers)
	for _, file := range files {
		fmt.Fprintf(cmd.ErrOrStderr(), "figure: %s\n", file)
	}
	return err
}

// read returns the tokens and what they stand for.
func (e *explanation) read(m *model.LM, begin int) (ids []int32, names []string, err error) {
	var v *explain.Vocabulary
	file := e.vocabulary
	if file == "" {
		if beside := filepath.Join(e.path, "tokenizer.json"); exists(beside) {
			file = beside
		}
	}
	switch {
	case file != "":
		if v, err = explain.ReadVocabulary(file, m.Config.Vocab); err != nil {
			return nil, nil, err
		}
	case m.Config.Vocab == 256:
		v = explain.Bytes()
	case e.text != "":
		return nil, nil, fmt.Errorf("--text for a model of %d tokens: want --vocabulary with its tokens, or --tokens", m.Config.Vocab)
	}
	if e.tokens != "" {
		ids, err = harness.ReadTokens(e.tokens)
		if err == nil && len(ids) == 0 {
			err = fmt.Errorf("%s: no tokens: want at least one", e.tokens)
		}
	} else if ids, err = v.Encode(e.text); err == nil && begin >= 0 {
		ids = append([]int32{int32(begin)}, ids...)
	}
	if err != nil {
		return nil, nil, err
	}
	if n := explain.MaxTokens; e.out != "" && len(ids) > n {
		return nil, nil, fmt.Errorf("--out: a figure of %d tokens: want at most %d", len(ids), n)
	}
	if len(ids) > m.Config.MaxLen {
		return nil, nil, fmt.Errorf("%d tokens: want at most the model's context of %d", len(ids), m.Config.MaxLen)
	}
	for _, id := range ids {
		name := v.Name(id)
		if int(id) == begin {
			name = "<begin>"
		}
		names = append(names, name)
	}
	return ids, names, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// checkpointName is what titles call the model at path.
func checkpointName(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	return filepath.Base(path)
}
