package sparse

import (
	"math"
	"slices"

	"attnbench/attn"
	"attnbench/attn/tile"
)

func init() { attn.Register("dsa", DSA{K: 2048, Heads: 4, Dim: 32}, DSA.New) }

// DSA holds the options of DeepSeek sparse attention over q, k and v, spelled dsa:k=512,heads=4,dim=32.
type DSA struct {
	K     int `opt:"k"`     // keys that a query attends to, the same for all heads; at least 1
	Heads int `opt:"heads"` // of the indexer; 1 to 256
	Dim   int `opt:"dim"`   // width of the indexer's queries and keys; 1 to 1024
}

// New returns DeepSeek sparse attention with the options o.
func (o DSA) New() (attn.Mechanism, error) {
	switch {
	case o.K < 1 || o.K > most:
		return nil, attn.OptionError("k", o.K, "an integer from 1 to 2^30")
	case o.Heads < 1 || o.Heads > 256:
		return nil, attn.OptionError("heads", o.Heads, "an integer from 1 to 256")
	case o.Dim < 1 || o.Dim > 1024:
		return nil, attn.OptionError("dim", o.Dim, "an integer from 1 to 1024")
	}
	m := dsa{o: o}
	m.Softmax = tile.Softmax{Pattern: tile.Dense{}, Reads: m.reads}
	heads, dim := func(attn.Shape) int { return o.Heads }, func(attn.Shape) int { return o.Dim }
	m.info = &attn.Info{
		Name: attn.Spell("dsa", o), Family: "sparse", Title: "DeepSeek sparse attention (lightning indexer)", Revision: 1,
		Paper: "DeepSeek-AI 2025, arXiv:2512.02556", Year: 2025,
		Masks: attn.Causal, Selects: true, Aux: true, Couples: attn.CouplesHeads, Cost: m.cost,
		Inputs: append(attn.QKV(),
			attn.Input{Name: "iq", From: attn.QuerySide, Heads: heads, Width: dim, Rotary: true},
			attn.Input{Name: "ik", From: attn.MemorySide, Heads: attn.OneHead, Width: dim, Rotary: true},
			attn.Input{Name: "iw", From: attn.QuerySide, Heads: heads, Width: attn.OneWide}),
		Limits: []attn.Limit{{
			Spec:   func(s attn.Shape) string { return attn.Spell("dsa", DSA{max(s.KeyLen, 1), o.Heads, o.Dim}) },
			Equals: "full",
			Convert: func(c *attn.Call64) *attn.Call64 {
				d := *c
				d.Extra = nil
				return &d
			},
		}},
	}
	return m, nil
}

type dsa struct {
	tile.Softmax
	o    DSA
	info *attn.Info
}

// The extra inputs.
const (
	indexQ = iota
	indexK
	indexW
)

// Define computes, for the query at position t and the indexer's heads x,
//
//	I[t,j] = Σ_x w[t,x]·ReLU(q^I[t,x]·k^I[j])  for j ≤ t
//	o[t] = Σ_j p[t,j] v[j],  p[t,·] = softmax_j(q[t]·k[j] / √d) over j in S(t), for each head
//
// where S(t), the same for all heads, holds the K keys of largest I, of equal ones the earlier. The choice has no gradient: the indexer
// learns by the auxiliary loss alone, the mean over all queries of the batch of
//
//	KL(p̄[t,·] ‖ softmax_j I[t,j]) over j in S(t)
//
// with p̄ the mean of p over the heads, held fixed. DeepSeek-AI 2025 (arXiv:2512.02556) eq. 1, 2 and 4.
func (m dsa) Define(c *attn.Call64) error {
	c.ZeroPadding()
	frozen := c.Frozen
	if frozen == nil {
		frozen = c
	}
	var lists [][]int // of the segment at hand
	var index [][]float64
	var target [][]float64
	c.EachHead(func(h attn.Head64) {
		if h.H == 0 {
			lists, index, target = nil, nil, nil
			for i := range h.Queries {
				x := m.o.index(h, i)
				list := largest(x, m.o.K)
				for n, j := range list {
					x[n] = x[j]
				}
				lists, index, target = append(lists, list), append(index, x[:len(list)]), append(target, make([]float64, len(list)))
			}
		}
		for i, list := range lists {
			over(h, i, list)
			if c.Aux == nil || len(list) == 0 {
				continue
			}
			fixed := h
			fixed.Call = frozen
			attn.Axpy(1/float64(c.Heads), weightsOf(fixed, i, list), target[i])
			if h.H == c.Heads-1 {
				top, sum := slices.Max(index[i]), 0.0
				for _, x := range index[i] {
					sum += math.Exp(x - top)
				}
				for n, p := range target[i] {
					if p > 0 {
						*c.Aux += p * (math.Log(p) - (index[i][n] - top - math.Log(sum))) / float64(c.NumQueries())
					}
				}
			}
		}
	})
	return nil
}

// index returns I of query i for the keys that it may see.
func (o DSA) index(h attn.Head64, i int) []float64 {
	x := make([]float64, seen(h, i))
	for a := range o.Heads {
		q := h.Call.Extra[indexQ].Row(h.Row, h.Query0+i, a)
		w := h.Call.Extra[indexW].Row(h.Row, h.Query0+i, a)[0]
		for j := range x {
			x[j] += w * max(0, attn.Dot(q, h.Call.Extra[indexK].Row(h.Row, h.Key0+j, 0)))
		}
	}
	return x
}

// weightsOf returns the softmax of query i over the listed keys.
func weightsOf(h attn.Head64, i int, keys []int) []float64 {
	p := make([]float64, len(keys))
	for n, j := range keys {
		p[n] = attn.Dot(h.Q(i), h.K(j)) / math.Sqrt(float64(h.Call.KeyDim))
	}
	attn.Softmax(p)
	return p
}

// Info describes the mechanism.
func (m dsa) Info() attn.Info { return *m.info }

// Forward computes the output. With c.Saved set, the sums and the chosen keys stay there.
func (m dsa) Forward(ws *attn.Workspace, c *attn.Call) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	c.ZeroPadding()
	m.forward(ws, c, c.Extra[indexK])
	return nil
}

func (m dsa) lists(s attn.Shape) tile.Lists { return tile.Lists{Sets: 1, Most: min(m.o.K, s.KeyLen)} }

// forward computes the call, with the indexer's keys index.
func (m dsa) forward(ws *attn.Workspace, c *attn.Call, index attn.View) {
	if c.Batch == 0 || c.QueryLen == 0 {
		return
	}
	mark := ws.Mark()
	defer ws.Release(mark)
	a := dsaArgs{o: m.o, call: *c, index: index, lists: m.lists(c.Shape), scale: rootOf(c.KeyDim)}
	a.call.Saved, a.call.Aux = nil, nil
	if c.Saved != nil {
		a.lse = c.Saved.Floats(c.Batch * c.Heads * c.QueryLen)
		a.lists.Keys = c.Saved.Ints(c.Batch * c.QueryLen * a.lists.Most)
	}
	a.loss = ws.Floats(c.Batch * c.QueryLen)
	clear(a.loss)
	a.aux = c.Aux != nil
	longest := 0
	for i := range c.NumSegments() {
		longest = max(longest, c.Segment(i).Queries)
	}
	a.groups, a.masked = ceil(longest, dsaTiles*dsaRows), m.masked(c.Shape)
	attn.Parallel(ws, c.NumSegments()*a.groups, m.floats(c.Shape), a, func(s *attn.Scratch, a *dsaArgs, task int) { a.run(s, task) })
	if a.aux {
		sum := 0.0
		for _, x := range a.loss {
			sum += float64(x)
		}
		*c.Aux += float32(sum / float64(max(1, c.NumQueries())))
	}
}

// divergence returns KL(p ‖ softmax(index)) and leaves that softmax in index.
func divergence(p, index []float32) float32 {
	top := tile.Max(index)
	kl, mass := 0.0, 0.0
	for j, x := range p {
		if x > 0 {
			kl += float64(x) * (math.Log(float64(x)) - float64(index[j]-top))
			mass += float64(x)
		}
	}
	sum := tile.ExpSum(index, top)
	for j := range index {
		index[j] /= sum
	}
	return float32(kl + mass*math.Log(float64(sum)))
}
