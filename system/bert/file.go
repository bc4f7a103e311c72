package bert

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"

	"attnbench/model/bert"
	"attnbench/text/wordpiece"
	"attnbench/train"
)

// pretrained is what a file of a pre-trained encoder holds: its tensors, what it was built by, the pieces that it reads, and where
// it comes from.
type pretrained struct {
	config bert.Config
	words  *wordpiece.Vocabulary
	origin string // recipe, seed and steps of its training, but not the mechanism
	*train.Checkpoint
}

// The file's metadata beside the tensors.
const (
	metaConfig = "bert"
	metaWords  = "pieces"
	metaOrigin = "pretraining"
)

// mechMark in a path stands for the mechanism, so that one spelling names the files of several.
const mechMark = "MECH"

// forMech returns the path of a mechanism's file.
func forMech(path, mech string) string {
	name := strings.Map(func(r rune) rune {
		if strings.ContainsRune(":,=|+/", r) {
			return '-'
		}
		return r
	}, mech)
	return strings.ReplaceAll(path, mechMark, name)
}

// savePretrained writes a model with its masked-token head.
func savePretrained(path string, m *bert.Model, words *wordpiece.Vocabulary, origin string) error {
	config, err := json.Marshal(m.Config)
	if err != nil {
		return err
	}
	c := &train.Checkpoint{Meta: map[string]string{metaConfig: string(config), metaWords: words.String(), metaOrigin: origin}}
	for _, p := range m.Params() {
		c.Tensors = append(c.Tensors, train.Tensor{Name: p.Name, Shape: p.Shape, Data: p.Data})
	}
	for _, b := range m.Buffers() {
		c.Tensors = append(c.Tensors, train.Tensor{Name: b.Name, Shape: []int{len(b.Data)}, Data: b.Data})
	}
	return train.WriteCheckpoint(path, c)
}

func loadPretrained(path string) (*pretrained, error) {
	c, err := train.ReadCheckpoint(path)
	if err != nil {
		return nil, err
	}
	p := &pretrained{origin: c.Meta[metaOrigin], Checkpoint: c}
	wrap := func(err error) error { return fmt.Errorf("checkpoint %s: %w", path, err) }
	text, ok := c.Meta[metaConfig]
	if !ok {
		return nil, wrap(fmt.Errorf("no pre-trained encoder: want a file that bert-mlm wrote"))
	}
	if err := json.Unmarshal([]byte(text), &p.config); err != nil {
		return nil, wrap(err)
	}
	if p.words, err = wordpiece.Parse(c.Meta[metaWords]); err != nil {
		return nil, wrap(err)
	}
	if p.words.Size() != p.config.Vocab {
		return nil, wrap(fmt.Errorf("%d pieces for a vocabulary of %d: want as many", p.words.Size(), p.config.Vocab))
	}
	if _, err := c.Tensor("embedding.weight", []int{p.config.Vocab, p.config.Dim}); err != nil {
		return nil, wrap(err)
	}
	return p, nil
}

// restore copies the encoder's tensors into a model of another head, and maybe of another mechanism that learns the same tensors.
func (p *pretrained) restore(m *bert.Model) error {
	if err := p.Checkpoint.Restore(m.EncoderParams()); err != nil {
		return fmt.Errorf("pre-trained with %s: %w", p.config.Attention, err)
	}
	for _, b := range m.Buffers() {
		if x, err := p.Tensor(b.Name, []int{len(b.Data)}); err == nil {
			copy(b.Data, x) // those of another mechanism stay as they start
		}
	}
	return nil
}

// commonOrigin returns the origin that the files which a path names share: they may differ in the mechanism alone.
func commonOrigin(path string) (string, error) {
	files := []string{path}
	if strings.Contains(path, mechMark) {
		var err error
		if files, err = filepath.Glob(strings.ReplaceAll(path, mechMark, "*")); err != nil {
			return "", err
		}
		if len(files) == 0 {
			return "", fmt.Errorf("%s: no such file for any mechanism: want those that bert-mlm wrote", path)
		}
	}
	origin := ""
	for i, file := range files {
		p, err := loadPretrained(file)
		if err != nil {
			return "", err
		}
		if i > 0 && p.origin != origin {
			return "", fmt.Errorf("%s and %s come from different trainings: want files that differ in the mechanism alone", files[0], file)
		}
		origin = p.origin
	}
	return origin, nil
}
