package train

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"attnbench/model"
)

// LoadLM builds the language model whose training wrote the checkpoint: the one that was scored, of mean weights if there are any. attention, unless
// empty, replaces its mechanism or layer pattern by another that learns the same tensors.
func LoadLM(path, attention string) (*model.LM, error) {
	c, err := ReadCheckpoint(path)
	if err != nil {
		return nil, err
	}
	m, err := c.lm(attention)
	if err != nil {
		return nil, fmt.Errorf("checkpoint %s: %w", path, err)
	}
	return m, nil
}

func (c *Checkpoint) lm(attention string) (*model.LM, error) {
	var spec model.Config
	text, ok := c.Meta["model"]
	if !ok {
		return nil, fmt.Errorf("it does not describe its model: want one of a language model's training")
	}
	if err := json.Unmarshal([]byte(text), &spec); err != nil {
		return nil, fmt.Errorf("its model: %w", err)
	}
	if attention != "" {
		spec.Attention = attention
	}
	for _, t := range c.Tensors { // the mean takes the place of the last weights
		if name, ok := strings.CutPrefix(t.Name, "mean/"); ok {
			i := slices.IndexFunc(c.Tensors, func(u Tensor) bool { return u.Name == name })
			if i >= 0 {
				c.Tensors[i].Shape, c.Tensors[i].Data = t.Shape, t.Data
			}
		}
	}
	if err := c.fits(spec); err != nil {
		return nil, err
	}
	m, err := model.New(spec)
	if err != nil {
		return nil, err
	}
	if err := c.Restore(m.Params()); err != nil {
		return nil, err
	}
	for _, b := range m.Buffers() {
		x, err := c.Tensor(b.Name, []int{len(b.Data)})
		if err != nil {
			return nil, err
		}
		copy(b.Data, x)
	}
	return m, nil
}

// fits keeps a description that was tampered with from asking for more memory than the file has numbers.
func (c *Checkpoint) fits(m model.Config) error {
	total := 0
	for _, t := range c.Tensors {
		total += len(t.Data)
	}
	for _, sizes := range [][]int{
		{m.Vocab, m.Dim}, {m.Layers, m.Dim, m.MLPWidth}, {m.Layers, m.Dim, m.Heads, m.KeyDim}, {m.Layers, m.Dim, m.Heads, m.ValueDim},
		{m.Layers, m.Dim, m.ShortConv}, {m.KVHeads},
	} {
		n := 1.0
		for _, x := range sizes {
			if x < 0 {
				return fmt.Errorf("its model has a size of %d: want at least 0", x)
			}
			n *= float64(max(x, 1))
		}
		if n > float64(total) {
			return fmt.Errorf("its model has sizes of %d: want at most the file's %d numbers", sizes, total)
		}
	}
	if m.Positions == "learned" && m.MaxLen > total {
		return fmt.Errorf("its model has %d positions: want at most the file's %d numbers", m.MaxLen, total)
	}
	return nil
}
