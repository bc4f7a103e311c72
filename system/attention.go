package system

import (
	"errors"
	"fmt"
	"strings"

	"attnbench/attn"
)

// Attentions splits Fit.Mech for a model with several attentions, one a mask: "a+b+c" names each, and a string alone stands for all whose mask it
// allows; the others get the exact attention. Each part may be a layer pattern a|b. The spellings returned are canonical.
func Attentions(mech string, masks ...attn.Mask) ([]string, error) {
	parts := strings.Split(mech, "+")
	alone := len(parts) == 1
	if !alone && len(parts) != len(masks) {
		return nil, fmt.Errorf("mechanism %q: %d attentions: want 1 or %d between plus signs", mech, len(parts), len(masks))
	}
	out := make([]string, len(masks))
	allowed := 0
	for i, mask := range masks {
		part := parts[min(i, len(parts)-1)]
		layers, err := attn.Pattern(part)
		if err != nil {
			return nil, err
		}
		err = trainable(layers, mask)
		switch {
		case err == nil:
			out[i] = strings.Join(layers, "|")
			allowed++
		case !alone:
			return nil, err
		default:
			if out[i], err = Exact(); err != nil {
				return nil, err
			}
		}
	}
	if allowed == 0 {
		return nil, fmt.Errorf("mechanism %q: want one that can be trained under a mask of %v", mech, masks)
	}
	return out, nil
}

// trainable reports why mechanisms could not be trained under a mask, and then written with.
func trainable(layers []string, mask attn.Mask) error {
	for _, spec := range layers {
		m, err := attn.New(spec)
		if err != nil {
			return err
		}
		info := m.Info()
		if _, ok := m.(attn.Differentiable); !ok || info.Inference {
			return fmt.Errorf("%s: it cannot be trained: want a mechanism with a backward pass", spec)
		}
		if info.Masks&mask == 0 {
			return fmt.Errorf("%s: mask is %v: want %v", spec, mask, info.Masks)
		}
		if _, ok := m.(attn.Incremental); !ok && mask != attn.Bidirectional {
			return fmt.Errorf("%s: it does not decode: want a mechanism that does", spec)
		}
	}
	return nil
}

// Exact returns the first of the main job's mechanisms that approximates nothing and takes every mask.
func Exact() (string, error) {
	const every = attn.Causal | attn.Bidirectional | attn.Cross
	for _, name := range attn.Names() {
		m, err := attn.New(name)
		if err != nil {
			return "", err
		}
		if i := m.Info(); i.Quick && !i.Approximates && i.Masks == every && trainable([]string{name}, every) == nil {
			return i.Name, nil
		}
	}
	return "", errors.New("no exact attention is registered: want attn/all imported")
}
