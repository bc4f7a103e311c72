package sparse

import (
	"fmt"

	"attnbench/attn"
	"attnbench/attn/tile"
)

// NewState returns an empty cache of all keys and values, and of the indexer's keys.
func (m dsa) NewState(s attn.Shape) (attn.State, error) {
	if s.Mask == attn.Cross {
		return nil, fmt.Errorf("%s: state for mask %v: want causal", m.info.Name, s.Mask)
	}
	c, err := m.Softmax.NewCache(m.info.Name, s, tile.Kept{Heads: s.KVHeads, Dim: s.KeyDim}, tile.Kept{Heads: s.KVHeads, Dim: s.ValueDim},
		tile.Kept{Heads: 1, Dim: m.o.Dim})
	if err != nil {
		return nil, err // not a nil *Cache in a State
	}
	return c, nil
}

// Extend appends the call's keys and values and computes its queries.
func (m dsa) Extend(ws *attn.Workspace, state attn.State, c *attn.Call) error {
	s, err := tile.Checked(m.info, state, c)
	if err != nil {
		return err
	}
	c.ZeroPadding()
	call := s.Append(ws, c, c.K, c.V, c.Extra[indexK])
	call.K, call.V, call.Saved, call.Aux = s.View(0), s.View(1), nil, nil
	m.forward(ws, &call, s.View(2))
	return nil
}
