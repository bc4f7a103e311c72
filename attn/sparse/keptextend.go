package sparse

import (
	"fmt"
	"math"

	"attnbench/attn"
	"attnbench/attn/tile"
)

// extend appends the call's tokens to the state and computes its queries: those of rows in their prompts over all tokens, of the others
// token by token over what is kept.
func (p *policy) extend(ws *attn.Workspace, info *attn.Info, state attn.State, c *attn.Call) error {
	if err := c.Check(info); err != nil {
		return err
	}
	s, ok := state.(*kept)
	if !ok || s == nil {
		return fmt.Errorf("%s: %w: %T", info.Name, errState, state)
	}
	if err := s.accepts(info.Name, c); err != nil {
		return fmt.Errorf("%s: %w", info.Name, err)
	}
	c.ZeroPadding()
	mark := ws.Mark()
	defer ws.Release(mark)
	s.prompt, s.later = s.prompt[:0], s.later[:0]
	most, before := 0, 0
	for i := range c.NumSegments() {
		g := c.Segment(i)
		before = max(before, s.held[g.Row])
		if s.ended[g.Row] {
			s.later = append(s.later, g)
			most = max(most, p.slots(s.held[g.Row]+g.Keys))
		} else {
			s.prompt = append(s.prompt, g)
			most = max(most, s.held[g.Row]+g.Keys)
		}
	}
	s.grow(most)
	a := keptArgs{state: s, call: *c, lse: ws.Floats(c.Batch * c.Heads * c.QueryLen), step: p.stepKeys(before + c.KeyLen)}
	a.call.Saved, a.call.Segments = nil, s.prompt
	floats := p.workerFloats(c.Shape, before+c.KeyLen)
	if len(s.prompt) > 0 {
		attn.Parallel(ws, len(s.prompt)*c.KVHeads, 0, a, func(_ *attn.Scratch, a *keptArgs, task int) { a.append(task) })
		a.over()
		dense.Reserve(floats).ForwardPart(ws, &a.call, a.lse)
		if p.accumulate {
			attn.Parallel(ws, len(s.prompt)*c.KVHeads, floats, a, func(s *attn.Scratch, a *keptArgs, task int) { a.sum(s, task) })
		}
		if c.EndOfPrompt {
			attn.Parallel(ws, len(s.prompt), floats, a, func(s *attn.Scratch, a *keptArgs, task int) { a.end(s, task) })
			for _, g := range s.prompt {
				if g.Keys > 0 {
					s.ended[g.Row], s.held[g.Row] = true, min(s.held[g.Row], p.budget)
				}
			}
			s.shrink()
		}
	}
	if len(s.later) == 0 {
		return nil
	}
	a.call.Segments, a.call.K, a.call.V = s.later, c.K, c.V
	tasks := len(s.later)
	if !p.wide {
		tasks *= c.KVHeads
	}
	attn.Parallel(ws, tasks, floats, a, func(s *attn.Scratch, a *keptArgs, task int) { a.tokens(s, task) })
	for _, g := range s.later {
		s.seen[g.Row] += g.Keys
		if s.held[g.Row] += g.Keys; p.steady {
			s.held[g.Row] = min(s.held[g.Row], max(p.budget, s.held[g.Row]-g.Keys))
		}
	}
	return nil
}

// slots returns how many so many tokens take behind a prompt, at the most.
func (p *policy) slots(tokens int) int {
	if p.steady {
		return min(tokens, p.budget+1)
	}
	return tokens
}

// stepKeys returns how many keys a later query takes at once, of so many at most: all, where the weights are asked for afterwards.
func (p *policy) stepKeys(keys int) int {
	if p.steady {
		return min(keys, p.budget+1)
	}
	return 2048
}

// workerFloats is the scratch of a worker when rows have so many tokens at most, the call's included.
func (p *policy) workerFloats(s attn.Shape, keys int) int {
	_, worker := dense.Scratch(s, attn.PassForward)
	return max(int(worker/4), tile.ColumnsFloats(s), attn.ScratchFloats(p.stepKeys(keys), p.stepKeys(keys), s.KeyDim))
}

type keptArgs struct {
	state *kept
	call  attn.Call // of the prompts, then of the rows behind theirs
	lse   []float32 // log₂ of the softmax sums of the prompts' queries
	step  int
}

// append takes the keys and values of one head of a prompt.
func (a *keptArgs) append(task int) {
	g, kv := a.call.Segments[task/a.call.KVHeads], task%a.call.KVHeads
	for t := range g.Keys {
		a.state.put(&a.call, g, t, kv, a.state.held[g.Row]+t)
	}
}

// over makes the call one over all that is kept.
func (a *keptArgs) over() {
	s := a.state
	a.call.K, a.call.V = s.views()
	for i := range s.prompt {
		g := &s.prompt[i]
		s.held[g.Row] += g.Keys
		s.seen[g.Row] += g.Keys
		g.Key0, g.Keys = 0, s.held[g.Row]
	}
	a.call.KeyLen = s.capacity
}

// sum adds the weights that the queries of a prompt give the tokens of a head.
func (a *keptArgs) sum(s *attn.Scratch, task int) {
	c := &a.call
	g, kv := c.Segments[task/c.KVHeads], task%c.KVHeads
	a.observe(s, g, kv, 0, a.state.weights(g.Row, kv))
}

// observe adds the weights that the queries from first on give the tokens of a head.
func (a *keptArgs) observe(s *attn.Scratch, g attn.Segment, kv, first int, weights []float32) {
	c := &a.call
	group := c.Heads / c.KVHeads
	for h := kv * group; h < (kv+1)*group; h++ {
		scratch := *s // each head takes the same memory
		dense.Columns(&scratch, c, g, h, first, a.lse, weights)
	}
}

// end lets go of what a row does not keep of its prompt. This happens once a sequence: the weights of the whole prompt are no scratch of
// a call.
func (a *keptArgs) end(scratch *attn.Scratch, task int) {
	s, p, g := a.state, a.state.policy, a.call.Segments[task]
	n := s.held[g.Row]
	if n <= p.budget {
		return
	}
	first := max(0, g.Queries-p.observe)
	slots := make([]int32, p.budget)
	var sums []float32
	for kv := range s.shape.KVHeads {
		weights := s.weights(g.Row, kv)
		if !p.accumulate {
			if sums == nil || !p.wide {
				sums = make([]float32, n)
			}
			a.observe(scratch, g, kv, first, sums)
			weights = sums
		}
		if p.wide {
			continue
		}
		p.choose(slots, weights[:n])
		s.keep(g.Row, kv, slots)
	}
	if p.wide {
		p.choose(slots, sums)
		for kv := range s.shape.KVHeads {
			s.keep(g.Row, kv, slots)
		}
	}
}

// tokens takes the tokens of a row behind its prompt one by one: of one head, or of all if they keep the same.
func (a *keptArgs) tokens(scratch *attn.Scratch, task int) {
	s, p, c := a.state, a.state.policy, &a.call
	first, last := task%c.KVHeads, task%c.KVHeads
	segment := task / c.KVHeads
	if p.wide {
		segment, first, last = task, 0, c.KVHeads-1
	}
	g := c.Segments[segment]
	weights, x, q := scratch.Floats(a.step), scratch.Floats(a.step), scratch.Floats(c.KeyDim)
	n := s.held[g.Row]
	for t := range g.Keys {
		for kv := first; kv <= last; kv++ {
			s.put(c, g, t, kv, n)
		}
		n++
		i := t - g.Offset()
		if p.steady {
			clear(weights[:n])
		}
		for kv := first; kv <= last; kv++ {
			to := weights
			if p.accumulate {
				to = s.weights(g.Row, kv)
			}
			for h := kv * c.Heads / c.KVHeads; i >= 0 && h < (kv+1)*c.Heads/c.KVHeads; h++ {
				a.attend(c.Out.Row(g.Row, g.Query0+i, h), c.Q.Row(g.Row, g.Query0+i, h), q, x, g.Row, kv, n)
				if p.steady {
					tile.Axpy(1, x[:n], to)
				}
			}
			if p.steady && !p.wide && n > p.budget {
				s.remove(g.Row, kv, p.drop(to[:n]), n)
			}
		}
		if !p.steady || n <= p.budget {
			continue
		}
		if p.wide {
			slot := p.drop(weights[:n])
			for kv := first; kv <= last; kv++ {
				s.remove(g.Row, kv, slot, n)
			}
		}
		n--
	}
}

// attend computes out for a query over the n tokens that a head keeps, step at a time. With one step x holds the weights.
func (a *keptArgs) attend(out, query, q, x []float32, row, kv, n int) {
	k, v := a.state.views()
	scale := rootOf(len(q))
	for e, y := range query {
		q[e] = scale * y
	}
	clear(out)
	top, sum := float32(math.Inf(-1)), float32(0)
	for lo := 0; lo < n; lo += a.step {
		w := x[:min(a.step, n-lo)]
		tile.Dots(w, q, tile.HeadRows(&k, row, lo, kv), len(w))
		if m := tile.Max(w); !(m <= top) {
			f := float32(math.Exp(float64(top - m)))
			for e := range out {
				out[e] *= f
			}
			sum, top = sum*f, m
		}
		sum += tile.ExpSum(w, top)
		tile.Combine(out, w, tile.HeadRows(&v, row, lo, kv))
	}
	for e := range out {
		out[e] /= sum
	}
	if n <= a.step {
		for j := range x[:n] {
			x[j] /= sum
		}
	}
}

// decodeCost returns the costs of Extend: by the prompt as a whole, or by tokens behind a prompt of KeyLen - QueryLen.
func (p *policy) decodeCost(s attn.Shape) attn.Cost {
	batch, dims, q := int64(s.Batch), int64(s.KeyDim+s.ValueDim), s.QueryLen
	before := s.KeyLen - q
	held := min(before, p.budget)
	var c attn.Cost
	pairs := s.Pairs()
	if before > 0 {
		pairs = 0
		for n := range q {
			see := held + n + 1
			if p.steady {
				see = min(see, p.budget+1)
			}
			pairs += int64(see)
		}
	}
	each := int64(s.KVHeads) * int64(p.tokenFloats(s))
	c.FLOPs = 2 * batch * int64(s.Heads) * pairs * dims
	c.Bytes = 4 * batch * (int64(held)*each + dims*int64(q*(s.Heads+s.KVHeads)))
	c.State = 4 * batch * int64(min(s.KeyLen, p.budget)) * each
	c.Read = c.State
	if s.Batch > 0 && q > 0 {
		c.Shared = 4 * int64(attn.ScratchFloats(s.Batch*s.Heads*q))
		c.PerWorker = 4 * int64(p.workerFloats(s, s.KeyLen))
	}
	return c
}
