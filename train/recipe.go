package train

import (
	"fmt"
	"strings"

	"attnbench/model"
	"attnbench/nn"
	"attnbench/task"
)

// Recipe is everything about a training run but the attention mechanism and the seed: two rows of a table that
// share a recipe differ in the mechanism alone.
type Recipe struct {
	Task     string       // spelling
	Model    model.Config // without Vocab, Attention, MaxLen and Seed, which come from the task, the mechanism and the run
	Settings Settings
	Params   int `zero:"omit"` // learned numbers that the width of the MLPs is chosen for; 0 leaves it as Model says
}

// String returns the recipe as text, one line a setting: what Hash is taken of.
func (r Recipe) String() string {
	r.Settings = r.Settings.withDefaults()
	var b strings.Builder
	canonical(&b, "", r)
	return b.String()
}

// Hash returns the SHA-256 of String, cut to 16 hexadecimal digits. It stands with each result.
func (r Recipe) Hash() string { return hash(r.String()) }

// Config returns the run of the recipe with a mechanism, spelled as the registry knows it or as a layer pattern, and a seed, from which
// both the parameters and the order of the training data come.
func (r Recipe) Config(attention string, seed uint64) (Config, error) {
	k, err := task.New(r.Task)
	if err != nil {
		return Config{}, err
	}
	m, err := r.NewModel(k, attention, seed)
	if err != nil {
		return Config{}, err
	}
	return Config{Settings: r.Settings, Model: m, Task: k, Seed: seed, Recipe: r.Hash(), Variant: m.Config.Attention}, nil
}

// NewModel returns the recipe's model for a task that its Task spells, before training.
func (r Recipe) NewModel(k task.Task, attention string, seed uint64) (*model.LM, error) {
	info := k.Info()
	c := r.Model
	c.Vocab, c.MaxLen, c.Attention, c.Seed = info.Vocab, info.Length, attention, seed
	if r.Params > 0 {
		var err error
		if c.MLPWidth, err = widthFor(c, r.Params); err != nil {
			return nil, fmt.Errorf("task %s: %w", info.Name, err)
		}
	}
	m, err := model.New(c)
	if err != nil {
		return nil, fmt.Errorf("task %s: %w", info.Name, err)
	}
	return m, nil
}

// widthFor returns the width of the MLPs with which a model has about as many parameters as wanted.
func widthFor(c model.Config, params int) (int, error) {
	if c.MLP == "none" || c.MLP == "" {
		return 0, fmt.Errorf("%d parameters: want a model with MLPs, whose width can be chosen", params)
	}
	var n [2]int
	for i := range n {
		c.MLPWidth = i + 1
		m, err := model.New(c)
		if err != nil {
			return 0, err
		}
		n[i] = nn.Count(m.Params())
	}
	each := n[1] - n[0]
	width := 1 + (2*(params-n[0])+each)/(2*each)
	if params < n[0] {
		return 0, fmt.Errorf("%s has %d parameters without MLPs: want fewer than %d", c.Attention, n[0]-each, params)
	}
	return width, nil
}
