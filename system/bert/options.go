package bert

import (
	"fmt"
	"slices"

	"attnbench/internal/options"
	"attnbench/model/bert"
)

// Size holds the options of the encoder.
type Size struct {
	Dim       int    `opt:"dim"`       // width
	Layers    int    `opt:"layers"`    // of attention and MLP
	Heads     int    `opt:"heads"`     // of each attention
	Positions string `opt:"positions"` // none, rope or learned
	Pieces    int    `opt:"pieces"`    // of the vocabulary, at most
}

// Schedule holds the options of training.
type Schedule struct {
	Tokens  int     `opt:"tokens"`  // of a batch, padding included
	Rate    float64 `opt:"rate"`    // peak learning rate
	Dropout float64 `opt:"dropout"` // of embeddings, sublayers and what a head reads
}

// Tuning holds the options of what is fine-tuned.
type Tuning struct {
	Init     options.Path `opt:"init"`     // file of bert-mlm to start from, MECH in it stands for the mechanism; empty to start from nothing
	Examples int          `opt:"examples"` // to train on, drawn by the seed; 0 for all
	Valid    bool         `opt:"valid"`    // score the validation part in place of the test: to choose other options by
}

var size = Size{Dim: 128, Layers: 4, Heads: 4, Positions: "rope", Pieces: 4096}

func (s *Size) check() error {
	for _, c := range []struct {
		name          string
		got, min, max int
	}{{"dim", s.Dim, 1, 1 << 16}, {"layers", s.Layers, 1, 1 << 10}, {"heads", s.Heads, 1, 1 << 16}, {"pieces", s.Pieces, 64, 1 << 20}} {
		if c.got < c.min || c.got > c.max {
			return options.Error(c.name, c.got, fmt.Sprintf("an integer from %d to %d", c.min, c.max))
		}
	}
	if s.Dim%s.Heads != 0 {
		return options.Error("heads", s.Heads, fmt.Sprintf("a divisor of dim, %d", s.Dim))
	}
	if !slices.Contains([]string{"none", "rope", "learned"}, s.Positions) {
		return options.Error("positions", s.Positions, "none, rope or learned")
	}
	return nil
}

// config returns the encoder of this size, without vocabulary, length, mechanism and seed.
func (s *Size) config(dropout float64) bert.Config {
	return bert.Config{Dim: s.Dim, Layers: s.Layers, Heads: s.Heads, MLPWidth: 4 * s.Dim, Norm: "pre", Positions: s.Positions, Dropout: dropout}
}

func (s *Schedule) check() error {
	switch {
	case s.Tokens < 16 || s.Tokens > 1<<24:
		return options.Error("tokens", s.Tokens, "an integer from 16 to 2^24")
	case !(s.Rate > 0):
		return options.Error("rate", s.Rate, "a number above 0")
	case !(s.Dropout >= 0 && s.Dropout < 1):
		return options.Error("dropout", s.Dropout, "0 to below 1")
	}
	return nil
}

// check compares the options with the file to start from, and returns where that comes from.
func (t *Tuning) check(s *Size) (origin string, err error) {
	if t.Examples < 0 {
		return "", options.Error("examples", t.Examples, "an integer of at least 0")
	}
	if t.Init == "" {
		return "", s.check()
	}
	if *s != size {
		return "", fmt.Errorf("option init: with dim, layers, heads, positions or pieces: want them left out, the file says them")
	}
	if origin, err = commonOrigin(string(t.Init)); err != nil {
		return "", fmt.Errorf("option init: %w", err)
	}
	return origin, nil
}
