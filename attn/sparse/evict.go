package sparse

import (
	"attnbench/attn"
	"attnbench/attn/tile"
)

// evicting is full attention whose decoding state keeps what a policy says.
type evicting struct {
	policy *policy
	info   *attn.Info
}

// newEvicting completes info and returns the mechanism. The policy sees the whole prompt, and so a question at its end, before anything goes.
func newEvicting(info attn.Info, p *policy, limit func(s attn.Shape) string) evicting {
	m := evicting{policy: p, info: &info}
	info.Family, info.Masks, info.Inputs, info.Cost = "sparse", attn.Causal, attn.QKV(), m.cost
	info.Approximates, info.Inference, info.SeesQuestion, info.Selects, info.Decode = true, true, true, true, attn.DecodeSameSplit
	info.Appends, info.Couples = !p.steady, attn.CouplesGroup
	if p.wide {
		info.Couples = attn.CouplesHeads
	}
	info.Limits = []attn.Limit{{Spec: limit, Equals: "full"}}
	return m
}

// Info describes the mechanism.
func (m evicting) Info() attn.Info { return *m.info }

// defineFull is the definition of full attention, which one pass over a prompt is.
func defineFull(c *attn.Call64) error {
	define(c, 1, func(attn.Head64, int, int) bool { return true })
	return nil
}

// Forward computes full attention.
func (m evicting) Forward(ws *attn.Workspace, c *attn.Call) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	dense.Forward(ws, c)
	return nil
}

// NewState returns an empty state; it keeps all tokens until the prompt ends.
func (m evicting) NewState(s attn.Shape) (attn.State, error) {
	return newKept(m.policy, m.info.Name, s)
}

// Extend appends the call's tokens, lets go of what the policy does not keep, and computes the call's queries.
func (m evicting) Extend(ws *attn.Workspace, s attn.State, c *attn.Call) error {
	return m.policy.extend(ws, m.info, s, c)
}

func (m evicting) cost(s attn.Shape, p attn.Pass) attn.Cost {
	if p == attn.PassDecode {
		return m.policy.decodeCost(s)
	}
	c := dense.Cost(s, p, s.Pairs()*int64(s.Heads))
	d := m.policy.decodeCost(s)
	c.State, c.Read = d.State, d.Read
	return c
}

// choose returns a policy's choose that keeps the last tokens and, of the others, those of largest weight, of equal ones the later
// (or the earlier).
func chooseLargest(last int, later bool) func(kept []int32, weights []float32) {
	return func(kept []int32, weights []float32) {
		n := len(weights) - last
		k := len(kept) - last
		if k > 0 {
			top := tile.NewTop(make([]float32, tile.TopFloats(k)), k)
			if !later {
				top.Take(weights[:n], 0)
				top.Sorted(kept, nil)
			} else { // of equal ones a Top holds the first
				back := make([]float32, n)
				for j, w := range weights[:n] {
					back[n-1-j] = w
				}
				top.Take(back, 0)
				top.Sorted(kept, nil)
				for i, j := 0, k-1; i <= j; i, j = i+1, j-1 {
					kept[i], kept[j] = int32(n-1)-kept[j], int32(n-1)-kept[i]
				}
			}
		}
		for j := range last {
			kept[k+j] = int32(n + j)
		}
	}
}

// dropSmallest returns a policy's drop: the token of least weight but for the last ones, of equal ones the earliest.
func dropSmallest(last int) func(weights []float32) int {
	return func(weights []float32) int {
		at := 0
		for j, w := range weights[:len(weights)-last] {
			if w < weights[at] {
				at = j
			}
		}
		return at
	}
}
