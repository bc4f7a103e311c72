package sparse

import (
	"cmp"
	"math"
	"slices"

	"attnbench/attn"
	"attnbench/attn/tile"
)

func init() { attn.Register("topk", TopK{K: 32}, TopK.New) }

// TopK holds the options of top-k attention, spelled topk:k=64.
type TopK struct {
	K int `opt:"k"` // keys that a query attends to, of those that the mask lets it see; at least 1
}

// New returns top-k attention with the options o.
func (o TopK) New() (attn.Mechanism, error) {
	if o.K < 1 || o.K > most {
		return nil, attn.OptionError("k", o.K, "an integer from 1 to 2^30")
	}
	m := topK{o: o}
	m.Softmax = tile.Softmax{Pattern: tile.Dense{}, Reads: m.reads}
	m.info = &attn.Info{
		Name: attn.Spell("topk", o), Family: "sparse", Title: "Top-k attention, exact choice", Revision: 1,
		Paper: "Zhao et al. 2019, arXiv:1912.11637 (Explicit Sparse Transformer)", Year: 2019,
		Masks: attn.Causal | attn.Bidirectional | attn.Cross, Approximates: true, Budget: "k", Selects: true, Inputs: attn.QKV(), Cost: m.cost,
		Limits: []attn.Limit{{
			Spec:   func(s attn.Shape) string { return attn.Spell("topk", TopK{K: max(s.KeyLen, 1)}) },
			Equals: "full",
		}},
	}
	return m, nil
}

type topK struct {
	tile.Softmax
	o    TopK
	info *attn.Info
}

// Define computes, for each head,
//
//	o[i] = Σ_j p[i,j] v[j],  p[i,·] = softmax_j(q[i]·k[j] / √d) over j in S(i)
//
// where S(i) holds the K keys of largest q[i]·k[j] among those that the mask lets i see, of equal ones the earlier; all when there
// are fewer. The choice has no gradient. Zhao et al. 2019 (arXiv:1912.11637) §3, with exactly K keys on ties.
func (m topK) Define(c *attn.Call64) error {
	c.ZeroPadding()
	c.EachHead(func(h attn.Head64) {
		x := make([]float64, h.Keys)
		for i := range h.Queries {
			for j := range x {
				x[j] = attn.Dot(h.Q(i), h.K(j))
			}
			over(h, i, largest(x[:seen(h, i)], m.o.K))
		}
	})
	return nil
}

// seen returns how many keys, from the first on, the mask lets query i see.
func seen(h attn.Head64, i int) int { return tile.Seen(h.Call.Mask, h.Segment, i) }

// largest returns the indices of the k largest, in order, of equal ones the earlier.
func largest(x []float64, k int) []int {
	k = min(max(k, 0), len(x))
	least := math.Inf(1) // of those that are taken
	if k > 0 {
		top := slices.Clone(x[:k]) // the k largest so far, the least first
		slices.Sort(top)
		for _, y := range x[k:] {
			if cmp.Less(top[0], y) {
				at, _ := slices.BinarySearch(top, y)
				copy(top, top[1:at])
				top[at-1] = y
			}
		}
		least = top[0]
	}
	equal := k // of those that equal least
	for _, y := range x {
		if y > least {
			equal--
		}
	}
	var taken []int
	for j, y := range x {
		if y > least {
			taken = append(taken, j)
		} else if y == least && equal > 0 {
			taken = append(taken, j)
			equal--
		}
	}
	return taken
}

// over computes softmax attention of query i over the listed keys and returns the weights; no keys give zeros.
func over(h attn.Head64, i int, keys []int) []float64 {
	p := make([]float64, len(keys))
	for n, j := range keys {
		p[n] = attn.Dot(h.Q(i), h.K(j)) / math.Sqrt(float64(h.Call.KeyDim))
	}
	attn.Softmax(p)
	clear(h.Out(i))
	for n, j := range keys {
		attn.Axpy(p[n], h.V(j), h.Out(i))
	}
	return p
}

// Info describes the mechanism.
func (m topK) Info() attn.Info { return *m.info }

// Forward computes the output. With c.Saved set, the sums and the chosen keys stay there.
func (m topK) Forward(ws *attn.Workspace, c *attn.Call) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	c.ZeroPadding()
	m.forward(ws, c)
	return nil
}

func (m topK) lists(s attn.Shape) tile.Lists {
	return tile.Lists{Sets: s.Heads, Most: min(m.o.K, s.KeyLen)}
}

func (m topK) forward(ws *attn.Workspace, c *attn.Call) {
	a := topArgs{scan: scan{call: *c}, lists: m.lists(c.Shape), scale: rootOf(c.KeyDim)}
	a.most = a.lists.Most
	if c.Saved != nil {
		n := c.Batch * c.Heads * c.QueryLen
		a.lse, a.lists.Keys = c.Saved.Floats(n), c.Saved.Ints(n*a.most)
	}
	attn.Parallel(ws, a.tasks(), topFloats(c.Shape, a.most), a, func(s *attn.Scratch, a *topArgs, task int) { a.query(s, task) })
}

func rootOf(dim int) float32 { return float32(1 / math.Sqrt(float64(dim))) }

func topFloats(s attn.Shape, most int) int {
	return attn.ScratchFloats(scanFloats(s, most), most, most)
}

type topArgs struct {
	scan
	lists tile.Lists
	scale float32
	lse   []float32 // [batch, heads, queries], nil at inference
}

// query computes a group of queries of one head.
func (a *topArgs) query(s *attn.Scratch, task int) {
	c := &a.call
	var t group
	a.run(s, task, &t)
	if t.n <= 0 {
		return
	}
	chosen, x := s.Ints(a.most), s.Floats(a.most)
	for i := range t.n {
		held := t.top[i].Sorted(chosen, x)
		for j := range x[:held] {
			x[j] *= a.scale
		}
		lse := a.lists.Attend(c, t.g, t.head, t.first+i, chosen[:held], x[:held])
		if a.lse != nil {
			a.lse[(t.g.Row*c.Heads+t.head)*c.QueryLen+t.g.Query0+t.first+i] = lse
			copy(a.lists.Of(&c.Shape, t.g, t.head, t.first+i), chosen[:held])
		}
	}
}

// Backward adds the gradients of q, k and v; the choice is held fixed.
func (m topK) Backward(ws *attn.Workspace, c *attn.Call, g *attn.Grads) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	if err := g.Check(m.info, c); err != nil {
		return err
	}
	l := m.lists(c.Shape)
	l.Keys = c.Saved.PartInts(1)
	l.Backward(ws, c, g, c.Saved.Part(0), rootOf(c.KeyDim))
	return nil
}

// NewState returns an empty cache of all keys and values.
func (m topK) NewState(s attn.Shape) (attn.State, error) { return m.Softmax.NewState(m.info.Name, s) }

// Extend appends the call's keys and values and computes its queries.
func (m topK) Extend(ws *attn.Workspace, s attn.State, c *attn.Call) error {
	call, err := tile.Append(ws, m.info, s, c)
	if err != nil {
		return err
	}
	call.Saved = nil
	m.forward(ws, &call)
	return nil
}

// reads counts all keys, and the values that the query heads of a group choose if no two choose the same.
func (m topK) reads(s attn.Shape, n int) int64 {
	values := min(n, m.o.K*(s.Heads/s.KVHeads))
	return int64(s.KVHeads) * (int64(n)*int64(s.KeyDim) + int64(values)*int64(s.ValueDim))
}

func (m topK) cost(s attn.Shape, p attn.Pass) attn.Cost {
	c := m.Softmax.Cost(s, p, s.Pairs()*int64(s.Heads)) // bytes, state and what it reads
	heads, dk, dv, l := int64(s.Batch)*int64(s.Heads), int64(s.KeyDim), int64(s.ValueDim), m.lists(s)
	kept := l.Pairs(s)
	c.FLOPs = 2 * heads * (s.Pairs()*dk + kept*dv)
	c.Shared, c.PerWorker = 0, 0
	if s.Batch > 0 && s.QueryLen > 0 {
		c.PerWorker = 4 * int64(topFloats(s, l.Most))
	}
	lists := 4 * int64(attn.ScratchFloats(s.Batch*s.Heads*s.QueryLen*l.Most))
	switch p {
	case attn.PassForward:
		c.Saved += lists
	case attn.PassBackward:
		c.FLOPs, c.PerWorker = 2*heads*kept*(3*dk+2*dv), l.BackwardBytes(s)
		c.Bytes += lists
	}
	return c
}
