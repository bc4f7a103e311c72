package sparse

import (
	"math"
	"slices"

	"attnbench/attn"
	"attnbench/attn/tile"
)

func init() { attn.Register("nsa", NSA{Block: 64, Top: 16, Window: 512}, NSA.New) }

// NSA holds the options of native sparse attention, spelled nsa:block=64,top=16,window=512. It is the variant of the fla library:
// blocks are compressed to their means, compression and selection have the same blocks, and the branches share keys and values. The
// paper's has learned compression of overlapping blocks, and keys and values for each branch.
type NSA struct {
	Block  int `opt:"block"`  // tokens a block; at least 1
	Top    int `opt:"top"`    // blocks that a query selects, with the first, its own and the one before that; at least 3
	Window int `opt:"window"` // keys of the window, the query's own included; at least 1
}

// New returns native sparse attention with the options o.
func (o NSA) New() (attn.Mechanism, error) {
	switch {
	case o.Block < 1 || o.Block > most:
		return nil, attn.OptionError("block", o.Block, "an integer from 1 to 2^30")
	case o.Top < 3 || o.Top > most:
		return nil, attn.OptionError("top", o.Top, "an integer from 3 to 2^30")
	case o.Window < 1 || o.Window > most:
		return nil, attn.OptionError("window", o.Window, "an integer from 1 to 2^30")
	}
	m := nsa{o: o, layouts: new(tile.SegmentPool)}
	m.Softmax = tile.Softmax{Pattern: tile.OwnBlock(o.Block), Reads: m.reads, Summary: tile.Summary{Block: o.Block, Kind: tile.SumBoth}}
	m.complete, m.window = tile.Complete(o.Block), tile.Window(o.Window)
	inputs := append(attn.QKV(), attn.Input{Name: "g", From: attn.QuerySide, Heads: attn.QueryHeads, Width: func(attn.Shape) int { return branches }, Act: attn.Sigmoid})
	m.info = &attn.Info{
		Name: attn.Spell("nsa", o), Family: "sparse", Title: "Native sparse attention, variant of fla", Revision: 1,
		Paper: "Yuan et al. 2025, arXiv:2502.11089; fla-org/flash-linear-attention", Year: 2025,
		Masks: attn.Causal, Selects: true, Couples: attn.CouplesGroup, Inputs: inputs, Cost: m.cost,
		Limits: []attn.Limit{{
			Spec:   func(s attn.Shape) string { return attn.Spell("nsa", NSA{o.Block, o.Top, max(s.KeyLen, 1)}) },
			Equals: "full",
			Prepare: func(c *attn.Call64) { // the window's gate alone is open
				for i := range c.Extra[0].Data {
					c.Extra[0].Data[i] = 0
				}
				for b := range c.Batch {
					for i := range c.QueryLen {
						for h := range c.Heads {
							c.Extra[0].Row(b, i, h)[windowed] = 1
						}
					}
				}
			},
			Convert: func(c *attn.Call64) *attn.Call64 {
				d := *c
				d.Extra = nil
				return &d
			},
		}},
	}
	return m, nil
}

// The branches, in the order of their gates.
const (
	compressed = iota
	selected
	windowed
	branches
)

type nsa struct {
	tile.Softmax
	o                NSA
	info             *attn.Info
	layouts          *tile.SegmentPool
	complete, window tile.Pattern
}

// Define computes, for each head, with the query at position t = i + Keys - Queries in block c = ⌊t/B⌋ and s = 1/√d,
//
//	o[i] = g[i,0] o¹ + g[i,1] o² + g[i,2] o³
//	o¹ = Σ_n p[n] v̄[n],  p = softmax_n(s·q[i]·k̄[n]) over the blocks n that have ended, n·B + B-1 ≤ t; k̄ and v̄ are their means
//	o² = softmax attention over j ≤ t in the blocks 0, c-1 and c, and in those Top-3 of the blocks 1 to c-2 that have the
//	     largest sum of p over the query heads of the key/value head, of equal ones the earlier
//	o³ = softmax attention over t-Window < j ≤ t
//
// A softmax over nothing gives zeros. The selection has no gradient. Yuan et al. 2025 (arXiv:2502.11089) eq. 5 to 12, with the
// compression and the gates (declared input g, after their sigmoid) of fla.
func (m nsa) Define(c *attn.Call64) error {
	c.ZeroPadding()
	b, group := m.o.Block, c.Heads/c.KVHeads
	c.EachHead(func(h attn.Head64) {
		keys, values := means(h, b)
		for i := range h.Queries {
			end := seen(h, i)
			own, ended := max(end-1, 0)/b, end/b
			out := make([]float64, c.ValueDim)
			add := func(branch int, o []float64) { attn.Axpy(h.QuerySide(0, i)[branch], o, out) }
			importance := make([]float64, own)
			for x := range group {
				other := h
				other.H = h.KV*group + x
				p := make([]float64, ended)
				for n := range p {
					p[n] = attn.Dot(other.Q(i), keys[n]) / math.Sqrt(float64(c.KeyDim))
				}
				attn.Softmax(p)
				for n := range importance {
					importance[n] += p[n]
				}
				if other.H == h.H {
					o := make([]float64, c.ValueDim)
					for n := range p {
						attn.Axpy(p[n], values[n], o)
					}
					add(compressed, o)
				}
			}
			over(h, i, keysOf(m.o.selects(importance, own), own, b, end))
			add(selected, h.Out(i))
			over(h, i, keysOf(nil, max(0, end-m.o.Window), 1, end))
			add(windowed, h.Out(i))
			copy(h.Out(i), out)
		}
	})
	return nil
}

// selects returns the selected blocks in front of block own, in order.
func (o NSA) selects(importance []float64, own int) []int {
	if own < 3 {
		return []int{0, 1}[:own]
	}
	free := largest(importance[1:own-1], o.Top-3)
	for n := range free {
		free[n]++
	}
	return append(append([]int{0}, free...), own-1)
}

// means returns the mean keys and values of the complete blocks.
func means(h attn.Head64, b int) (k, v [][]float64) {
	for n := range h.Keys / b {
		x, y := make([]float64, h.Call.KeyDim), make([]float64, h.Call.ValueDim)
		for j := n * b; j < (n+1)*b; j++ {
			attn.Axpy(1/float64(b), h.K(j), x)
			attn.Axpy(1/float64(b), h.V(j), y)
		}
		k, v = append(k, x), append(v, y)
	}
	return k, v
}

// Info describes the mechanism.
func (m nsa) Info() attn.Info { return *m.info }

// engines are those of the branches for a shape.
type engines struct {
	compressed tile.Softmax // over sums of keys
	selected   tile.Chosen
	windowed   tile.Softmax
	shape      attn.Shape // of the call over summaries
}

// engines returns them without scratch in common.
func (m nsa) engines(s attn.Shape, blocks int) engines {
	e := engines{
		compressed: tile.Softmax{Pattern: m.complete, Scale: 1 / (math.Sqrt(float64(s.KeyDim)) * float64(m.o.Block))},
		selected:   tile.NewChosen(m.Softmax, m.o.Block, min(m.o.Top-1, s.KeyLen/m.o.Block), true),
		windowed:   tile.Softmax{Pattern: m.window}, shape: s,
	}
	e.shape.KeyLen = blocks
	return e
}

// reserve makes all of them, and the selection, take as much scratch a worker in a pass.
func (e *engines) reserve(s attn.Shape, p attn.Pass, blocks int) (floats int) {
	if s.Batch == 0 || s.QueryLen == 0 {
		return 0
	}
	_, worker := e.scratch(s, p)
	floats = max(int(worker/4), selectFloats(s, e.selected.Most, blocks))
	e.compressed, e.selected, e.windowed = e.compressed.Reserve(floats), e.selected.Reserve(floats), e.windowed.Reserve(floats)
	return floats
}

// scratch returns the most that one of them takes in a pass, shared and for each worker.
func (e *engines) scratch(s attn.Shape, p attn.Pass) (shared, worker int64) {
	over := e.shape
	if p == attn.PassDecode {
		over.KeyLen = max(over.KeyLen, over.QueryLen) // there are as many summaries as there are; the queries are no part of them
	}
	s1, w1 := e.compressed.Scratch(over, p)
	s2, w2 := e.selected.Scratch(s, p)
	s3, w3 := e.windowed.Scratch(s, p)
	return max(s1, s2, s3), max(w1, w2, w3)
}

// work is what a pass keeps of its branches: outputs, sums and the selection.
type nsaWork struct {
	out    [branches]attn.View
	lse    [branches][]float32
	choice []int32
}

func (m nsa) work(c *attn.Call, choices int, floats func(int) []float32, ints func(int) []int32) (w nsaWork) {
	n := c.Batch * c.Heads * c.QueryLen
	for b := range branches {
		w.out[b] = attn.ViewAs(floats(n*c.ValueDim), c.Batch, c.QueryLen, c.Heads, c.ValueDim)
		w.lse[b] = floats(n)
	}
	w.choice = ints(choices)
	return w
}

// over returns the call of c over summaries.
func (m nsa) over(c *attn.Call, sums summaries, out attn.View) attn.Call {
	d := *c
	d.K, d.V = m.Summary.Parts(sums.view, c.Shape)
	d.Segments, d.KeyLen, d.Out, d.Saved = sums.layout, sums.most, out, nil
	return d
}

// Forward computes the output. With c.Saved set, what the branches gave and the selection stay there.
func (m nsa) Forward(ws *attn.Workspace, c *attn.Call) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	c.ZeroPadding()
	m.forward(ws, c, nil)
	return nil
}

func (m nsa) forward(ws *attn.Workspace, c *attn.Call, state attn.State) {
	if c.Batch == 0 || c.QueryLen == 0 {
		return
	}
	mark := ws.Mark()
	defer ws.Release(mark)
	sums := summarise(ws, m.layouts, m.Summary, c, state)
	defer m.layouts.Put(sums.layout)
	pass := attn.PassForward
	if state != nil {
		pass = attn.PassDecode
	}
	e := m.engines(c.Shape, c.KeyLen/m.o.Block)
	e.reserve(c.Shape, pass, c.KeyLen/m.o.Block)
	floats, ints := ws.Floats, ws.Ints
	if c.Saved != nil {
		floats, ints = c.Saved.Floats, c.Saved.Ints
	}
	w := m.work(c, e.selected.ChoiceLen(c.Shape), floats, ints)
	d := *c
	d.Saved = nil
	m.choose(ws, &d, e.selected, sums, w.choice)
	few := state != nil && tile.Few(c)
	for b := range branches {
		d.Out = w.out[b]
		switch over := m.over(c, sums, w.out[b]); {
		case b == compressed && few:
			e.compressed.Decode(ws, &over)
		case b == compressed:
			e.compressed.ForwardPart(ws, &over, w.lse[b])
		case b == selected && few:
			e.selected.Decode(ws, &d, state, w.choice)
		case b == selected:
			e.selected.ForwardSums(ws, &d, w.lse[b], w.choice)
		case few:
			e.windowed.Decode(ws, &d)
		default:
			e.windowed.ForwardPart(ws, &d, w.lse[b])
		}
	}
	d.Out = c.Out
	attn.Parallel(ws, c.NumSegments()*c.Heads, 0, mixArgs{call: d, work: w}, func(_ *attn.Scratch, a *mixArgs, task int) { a.mix(task) })
}

type mixArgs struct {
	call  attn.Call
	work  nsaWork
	grads attn.Grads
	scale attn.View // of the output's gradient by the branch's gate
	gated int       // the branch
}

// mix computes o = Σ_b g[b] o[b] of one head of a segment.
func (a *mixArgs) mix(task int) {
	c := &a.call
	g, h := c.Segment(task/c.Heads), task%c.Heads
	for i := g.Query0; i < g.Query0+g.Queries; i++ {
		out, gates := c.Out.Row(g.Row, i, h), c.Extra[0].Row(g.Row, i, h)
		clear(out)
		for b := range branches {
			for e, x := range a.work.out[b].Row(g.Row, i, h) {
				out[e] += gates[b] * x
			}
		}
	}
}

// NewState returns an empty cache of all keys and values, with a sum of keys and a mean value for each complete block.
func (m nsa) NewState(s attn.Shape) (attn.State, error) { return m.Softmax.NewState(m.info.Name, s) }

// Extend appends the call's keys and values and computes its queries.
func (m nsa) Extend(ws *attn.Workspace, s attn.State, c *attn.Call) error {
	call, err := tile.Append(ws, m.info, s, c)
	if err != nil {
		return err
	}
	call.Saved = nil
	m.forward(ws, &call, s)
	return nil
}

// selectArgs finds the selected blocks of each query of a key/value head, from what its query heads make of the summaries.
type selectArgs struct {
	call   attn.Call
	to     tile.Chosen
	sums   summaries
	choice []int32
	free   int // blocks beside the first, the own and the one before
	scale  float32
	groups int
}

// selectRows is the number of queries of a task.
const selectRows = 16

func selectFloats(s attn.Shape, most, blocks int) int {
	return attn.ScratchFloats(blocks, blocks, s.KeyDim, tile.TopFloats(max(most, 1)))
}

func (m nsa) choose(ws *attn.Workspace, c *attn.Call, a tile.Chosen, sums summaries, choice []int32) {
	args := selectArgs{call: *c, to: a, sums: sums, choice: choice, free: min(m.o.Top-3, a.Most), scale: rootOf(c.KeyDim) / float32(m.o.Block)}
	longest := 0
	for i := range c.NumSegments() {
		longest = max(longest, c.Segment(i).Queries)
	}
	args.groups = ceil(longest, selectRows)
	attn.Parallel(ws, c.NumSegments()*c.KVHeads*args.groups, selectFloats(c.Shape, a.Most, c.KeyLen/m.o.Block), args,
		func(s *attn.Scratch, a *selectArgs, task int) { a.run(s, task) })
}

func (a *selectArgs) run(s *attn.Scratch, task int) {
	c := &a.call
	segment, kv := task/a.groups/c.KVHeads, task/a.groups%c.KVHeads
	first := (a.groups - 1 - task%a.groups) * selectRows
	g, to := c.Segment(segment), a.sums.layout[segment]
	blocks := c.KeyLen / a.to.Size
	p, importance, q, room := s.Floats(blocks), s.Floats(blocks), s.Floats(c.KeyDim), s.Floats(tile.TopFloats(max(a.to.Most, 1)))
	for i := first; i < min(first+selectRows, g.Queries); i++ {
		choice := a.to.Choice(a.choice, &c.Shape, g, kv, i)
		for n := range choice {
			choice[n] = -1
		}
		end := tile.Seen(c.Mask, g, i)
		own, ended := max(end-1, 0)/a.to.Size, end/a.to.Size
		if own < 3 {
			for n := range own {
				choice[n] = int32(n)
			}
			continue
		}
		n := 1
		choice[0] = 0
		if free := min(a.free, own-2); free > 0 {
			a.importance(importance[:ended], p[:ended], q, g, to, kv, i)
			top := tile.NewTop(room, free)
			top.Take(importance[1:own-1], 1)
			n += top.Sorted(choice[1:], nil)
		}
		choice[n] = int32(own - 1)
	}
}

// importance sums the softmax of a query over the summaries, over the heads of its key/value head.
func (a *selectArgs) importance(sum, p, q []float32, g, to attn.Segment, kv, i int) {
	c := &a.call
	clear(sum)
	keys := tile.HeadRows(&a.sums.view, to.Row, to.Key0, kv)
	for h := kv * c.Heads / c.KVHeads; h < (kv+1)*c.Heads/c.KVHeads; h++ {
		for e, x := range c.Q.Row(g.Row, g.Query0+i, h) {
			q[e] = x * a.scale
		}
		tile.Dots(p, q, keys, len(p))
		total := tile.ExpSum(p, tile.Max(p))
		for n, x := range p {
			sum[n] += x / total
		}
	}
}

// reads counts the summaries, the window, and the selected blocks where these lie outside it at the most; each token once.
func (m nsa) reads(s attn.Shape, n int) int64 {
	b, own := m.o.Block, n/m.o.Block
	from := max(0, n-m.o.Window+1) // first key of the window
	outside := func(block int) int { return min((block+1)*b, max(from, block*b), n) - min(block*b, n) }
	tokens := n - from
	var blocks []int
	if own < 3 {
		blocks = []int{0, 1, 2}[:own+1]
	} else {
		blocks = append(blocks, 0, own-1, own)
		for x := 1; x <= min(m.o.Top-3, own-2) && x*b < from; x++ {
			blocks = append(blocks, x)
		}
	}
	slices.Sort(blocks)
	for _, x := range blocks {
		tokens += outside(x)
	}
	return int64(s.KVHeads) * int64(tokens+own) * int64(s.KeyDim+s.ValueDim)
}
