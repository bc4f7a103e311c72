package command

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"attnbench/attn"
	"attnbench/autograd"
	"attnbench/model"
	"attnbench/train"

	"github.com/spf13/cobra"
)

func newGenerateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "generate",
		Short: "Continue a text by a trained language model, byte by byte",
		Long: `Read a prompt into a model that train has left in a checkpoint (train --checkpoints), and write what follows, each byte as soon
as it is known. The model keeps a state of what it has read, so that no byte is read twice.

Greedy without a temperature. Otherwise bytes are drawn, of the --top-k most likely ones, and of these of as many as
together reach the probability --top-p. --mech puts another mechanism into the model, one that learns the same tensors.`,
		Example: `  attnbench train full --checkpoints models
  attnbench generate --checkpoint models/0123456789abcdef.ckpt --prompt 'The Rays of Light' --temperature 0.8 --top-p 0.9
  attnbench generate --checkpoint models/0123456789abcdef.ckpt --mech sliding:window=64,sinks=4 --tokens 2000`,
		Args: arguments(0, 0, "none"),
	}
	var file, mech, prompt string
	var seed uint64
	var n int
	var s model.Sampler
	f := cmd.Flags()
	f.StringVar(&file, "checkpoint", "", "checkpoint of a language model of bytes")
	f.StringVar(&mech, "mech", "", "mechanism or layer pattern; default that of the training")
	f.StringVar(&prompt, "prompt", "The ", "text to continue")
	f.IntVar(&n, "tokens", 400, "bytes to write")
	f.Float64Var(&s.Temperature, "temperature", 0, "divides the logits; 0 takes the most likely byte")
	f.IntVar(&s.TopK, "top-k", 0, "draw of the most likely so many; 0 for all")
	f.Float64Var(&s.TopP, "top-p", 0, "draw of the most likely that reach this probability; 0 for all")
	f.Uint64Var(&seed, "seed", 1, "seed of the draw")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		switch {
		case file == "":
			return usage(cmd, errors.New("no --checkpoint: want one that train --checkpoints has written"))
		case prompt == "":
			return usage(cmd, errors.New("--prompt is empty: want at least one byte"))
		case n < 0:
			return usage(cmd, fmt.Errorf("--tokens %d: want at least 0", n))
		}
		if err := s.Check(); err != nil {
			return usage(cmd, fmt.Errorf("--%w", err))
		}
		m, err := train.LoadLM(file, mech)
		if err != nil {
			return err
		}
		if m.Config.Vocab != 256 {
			return fmt.Errorf("checkpoint %s: a model of %d tokens: want one of the 256 bytes", file, m.Config.Vocab)
		}
		return generate(cmd, m, prompt, n, &s, seed)
	}
	return cmd
}

// generate streams the continuation of prompt, and says how fast it was: reading, which gives the first byte, and writing the others.
func generate(cmd *cobra.Command, m *model.LM, prompt string, n int, s *model.Sampler, seed uint64) error {
	t := autograd.NewTape(attn.NewWorkspace())
	t.NoGrad = true
	tokens := make([]int32, len(prompt))
	for i := range tokens {
		tokens[i] = int32(prompt[i])
	}
	out := cmd.OutOrStdout()
	if _, err := fmt.Fprint(out, prompt); err != nil {
		return err
	}
	start := time.Now()
	var first time.Time
	written := 0
	err := m.Generate(t, tokens, n, s, rand.New(rand.NewPCG(seed, 0)), func(token int32) error {
		if written++; written == 1 {
			first = time.Now()
		}
		if _, err := out.Write([]byte{byte(token)}); err != nil {
			return err
		}
		return cmd.Context().Err()
	})
	if err != nil {
		return err
	}
	end := time.Now()
	if _, err := fmt.Fprintln(out); err != nil {
		return err
	}
	note := []string{m.Config.Attention}
	if written > 0 {
		note = append(note, fmt.Sprintf("read %d bytes at %.0f tok/s", len(prompt), float64(len(prompt))/first.Sub(start).Seconds()))
	}
	if written > 1 {
		note = append(note, fmt.Sprintf("wrote %d at %.0f tok/s", written, float64(written-1)/end.Sub(first).Seconds()))
	}
	_, err = fmt.Fprintln(cmd.ErrOrStderr(), strings.Join(note, ", "))
	return err
}
