package sparse

import (
	"attnbench/attn"
	"attnbench/attn/tile"
)

func init() { attn.Register("moba", MoBA{Block: 256, K: 4}, MoBA.New) }

// MoBA holds the options of mixture of block attention, spelled moba:block=256,k=4.
type MoBA struct {
	Block int `opt:"block"` // tokens a block; at least 1
	K     int `opt:"k"`     // blocks that a query sees, its own included; at least 1
}

// New returns mixture of block attention with the options o.
func (o MoBA) New() (attn.Mechanism, error) {
	switch {
	case o.Block < 1 || o.Block > most:
		return nil, attn.OptionError("block", o.Block, "an integer from 1 to 2^30")
	case o.K < 1 || o.K > most:
		return nil, attn.OptionError("k", o.K, "an integer from 1 to 2^30")
	}
	m := moba{o: o, layouts: new(tile.SegmentPool)}
	m.Softmax = tile.Softmax{Pattern: tile.OwnBlock(o.Block), Reads: m.reads, Summary: tile.Summary{Block: o.Block, Kind: tile.SumKeys}}
	m.info = &attn.Info{
		Name: attn.Spell("moba", o), Family: "sparse", Title: "Mixture of block attention (MoBA)", Revision: 1,
		Paper: "Lu et al. 2025, arXiv:2502.13189", Year: 2025,
		Masks: attn.Causal, Approximates: true, Budget: "k", Selects: true, Inputs: attn.QKV(), Cost: m.cost,
		Limits: []attn.Limit{
			{Spec: func(s attn.Shape) string { return attn.Spell("moba", MoBA{o.Block, max(s.KeyLen, 1)}) }, Equals: "full"},
			{Spec: func(s attn.Shape) string { return attn.Spell("moba", MoBA{max(s.KeyLen, 1), 1}) }, Equals: "full"},
		},
	}
	return m, nil
}

type moba struct {
	tile.Softmax
	o       MoBA
	info    *attn.Info
	layouts *tile.SegmentPool
}

// Define computes, for each head, with the query at position t = i + Keys - Queries in block c = ⌊t/B⌋,
//
//	o[i] = Σ_j p[i,j] v[j],  p[i,·] = softmax_j(q[i]·k[j] / √d) over j ≤ t with ⌊j/B⌋ in S(i)
//
// where S(i) holds c and the K-1 blocks n < c of largest q[i]·k̄[n], of equal ones the earlier; k̄[n] is the mean key of the block.
// The choice has no gradient. Lu et al. 2025 (arXiv:2502.13189) eq. 2 to 6.
func (m moba) Define(c *attn.Call64) error {
	c.ZeroPadding()
	c.EachHead(func(h attn.Head64) {
		sums := make([][]float64, h.Keys/m.o.Block)
		for n := range sums {
			sums[n] = make([]float64, c.KeyDim)
			for j := n * m.o.Block; j < (n+1)*m.o.Block; j++ {
				attn.Axpy(1, h.K(j), sums[n]) // blocks are equally long: sums rank as means do, and tie where those would but for rounding
			}
		}
		for i := range h.Queries {
			end := seen(h, i)
			own := max(end-1, 0) / m.o.Block
			gate := make([]float64, own)
			for n := range gate {
				gate[n] = attn.Dot(h.Q(i), sums[n])
			}
			over(h, i, keysOf(largest(gate, m.o.K-1), own, m.o.Block, end))
		}
	})
	return nil
}

// keysOf returns the keys of the chosen blocks, and those of block own in front of end.
func keysOf(chosen []int, own, block, end int) (keys []int) {
	for _, n := range chosen {
		for j := n * block; j < (n+1)*block; j++ {
			keys = append(keys, j)
		}
	}
	for j := own * block; j < end; j++ {
		keys = append(keys, j)
	}
	return keys
}

// Info describes the mechanism.
func (m moba) Info() attn.Info { return *m.info }

// chosen returns the engine for a shape.
func (m moba) chosen(s attn.Shape) tile.Chosen {
	a := tile.NewChosen(m.Softmax, m.o.Block, min(m.o.K-1, s.KeyLen/m.o.Block), false)
	return a.Reserve(scanFloats(s, a.Most))
}

// Forward computes the output. With c.Saved set, the sums and the chosen blocks stay there.
func (m moba) Forward(ws *attn.Workspace, c *attn.Call) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	c.ZeroPadding()
	mark := ws.Mark()
	defer ws.Release(mark)
	sums := summarise(ws, m.layouts, m.Summary, c, nil)
	defer m.layouts.Put(sums.layout)
	m.forward(ws, c, sums)
	return nil
}

func (m moba) forward(ws *attn.Workspace, c *attn.Call, sums summaries) {
	if c.Batch == 0 || c.QueryLen == 0 {
		return
	}
	a := m.chosen(c.Shape)
	n := c.Batch * c.Heads * c.QueryLen
	var lse []float32
	var choice []int32
	if c.Saved != nil {
		lse, choice = c.Saved.Floats(n), c.Saved.Ints(a.ChoiceLen(c.Shape))
	} else {
		lse, choice = ws.Floats(n), ws.Ints(a.ChoiceLen(c.Shape))
	}
	choose(ws, c, a, sums, choice)
	a.ForwardSums(ws, c, lse, choice)
}

// Backward adds the gradients of q, k and v; the choice is held fixed.
func (m moba) Backward(ws *attn.Workspace, c *attn.Call, g *attn.Grads) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	if err := g.Check(m.info, c); err != nil {
		return err
	}
	if c.Batch > 0 && c.QueryLen > 0 {
		m.chosen(c.Shape).BackwardSums(ws, c, g, c.Saved.Part(0), c.Saved.PartInts(1))
	}
	return nil
}

// NewState returns an empty cache of all keys and values, with a sum of keys for each complete block.
func (m moba) NewState(s attn.Shape) (attn.State, error) { return m.Softmax.NewState(m.info.Name, s) }

// Extend appends the call's keys and values and computes its queries.
func (m moba) Extend(ws *attn.Workspace, s attn.State, c *attn.Call) error {
	call, err := tile.Append(ws, m.info, s, c)
	if err != nil {
		return err
	}
	call.Saved = nil
	mark := ws.Mark()
	defer ws.Release(mark)
	sums := summarise(ws, m.layouts, m.Summary, &call, s)
	defer m.layouts.Put(sums.layout)
	if !tile.Few(&call) {
		m.forward(ws, &call, sums)
		return nil
	}
	a := m.chosen(call.Shape)
	choice := ws.Ints(a.ChoiceLen(call.Shape))
	choose(ws, &call, a, sums, choice)
	a.Decode(ws, &call, s, choice)
	return nil
}

// reads counts the sums, the query's own block, and the blocks that the query heads of a group choose if no two choose the same.
func (m moba) reads(s attn.Shape, n int) int64 {
	before := n / m.o.Block
	tokens := n%m.o.Block + min(before, (min(m.o.K-1, before))*(s.Heads/s.KVHeads))*m.o.Block
	if m.o.K == 1 {
		before = 0
	}
	return int64(s.KVHeads) * (int64(tokens)*int64(s.KeyDim+s.ValueDim) + int64(before)*int64(s.KeyDim))
}

func (m moba) cost(s attn.Shape, p attn.Pass) attn.Cost {
	pairs, gates := int64(0), int64(0)
	g := attn.Segment{Queries: s.QueryLen, Keys: s.KeyLen}
	for i := range s.QueryLen {
		if n := tile.Seen(s.Mask, g, i); n > 0 {
			before := (n - 1) / m.o.Block
			gates += int64(before)
			pairs += int64(n-before*m.o.Block) + int64(min(m.o.K-1, before)*m.o.Block)
		}
	}
	c := m.chosen(s).Cost(s, p, pairs*int64(s.Heads))
	if p != attn.PassBackward && m.o.K > 1 {
		c.FLOPs += 2 * int64(s.Batch) * int64(s.Heads) * gates * int64(s.KeyDim)
	}
	if p == attn.PassForward {
		c.Shared += 4 * int64(attn.ScratchFloats(m.Summary.Floats(s)))
	}
	return c
}
