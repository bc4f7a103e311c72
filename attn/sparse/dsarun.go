package sparse

import (
	"attnbench/attn"
	"attnbench/attn/tile"
	"attnbench/internal/kernel"
)

const (
	dsaRows  = tile.Lanes // queries that are scored together, and that are a tile
	dsaTiles = 4          // tiles of a task
	// Of so many times the keys that a query attends to, all are taken into the products of a tile, and those that are not chosen hidden: products with rows
	// that 32 queries share are so much faster than rows brought one by one.
	dsaDense = 16
	// Fewer queries would leave most lanes of a tile without work.
	dsaFew   = 8
	dsaBlock = 128 // keys of a step
)

// masked is the number of keys up to which choices are kept as masks.
func (m dsa) masked(s attn.Shape) int {
	if s.QueryLen < dsaFew {
		return 0
	}
	return min(s.KeyLen, dsaDense*min(m.o.K, s.KeyLen))
}

func (m dsa) floats(s attn.Shape) int {
	n, k := min(dsaRows, s.QueryLen), m.lists(s).Most
	f := attn.ScratchFloats(topKeys*m.o.Dim, n*topKeys, n*topKeys, n*tile.TopFloats(k), n, k, k, k, k)
	if masked := m.masked(s); masked > 0 {
		f += attn.ScratchFloats(dsaTiles*masked, dsaTiles*s.KeyDim*tile.Lanes, dsaTiles*s.ValueDim*tile.Lanes, dsaBlock*tile.Lanes, dsaBlock*s.KeyDim,
			dsaBlock*s.ValueDim, kernel.PackedFloats(s.ValueDim, dsaBlock))
	}
	return f
}

type dsaArgs struct {
	o      DSA
	call   attn.Call
	index  attn.View // the indexer's keys
	lists  tile.Lists
	scale  float32
	lse    []float32 // [batch, heads, queries], nil at inference
	loss   []float32 // [batch, queries]
	aux    bool
	groups int // of the queries of the longest segment
	masked int
}

// dsaWork is a worker's scratch.
type dsaWork struct {
	panel, part, sum []float32 // of the scores
	weights          []float32
	tops             [dsaRows]tile.Top
	chosen           []int32
	x, index, target []float32

	hidden []uint32 // the queries of a tile that do not see a key, [tiles, masked]
	q, o   []float32
	scores []float32
	keys   []float32 // of a block, [keys, key dim]
	values []float32 // of one, without those that are not finite
	packed []float32
	state  [dsaTiles]kernel.Softmax
}

// run computes a group of queries, the last first: they see the most keys.
func (a *dsaArgs) run(s *attn.Scratch, task int) {
	c := &a.call
	g, first := c.Segment(task/a.groups), (a.groups-1-task%a.groups)*dsaTiles*dsaRows
	n, k := min(dsaTiles*dsaRows, g.Queries-first), a.lists.Most
	if n <= 0 {
		return
	}
	rows := min(dsaRows, c.QueryLen)
	var w dsaWork
	w.panel, w.part, w.sum = s.Floats(topKeys*a.o.Dim), s.Floats(rows*topKeys), s.Floats(rows*topKeys)
	room := s.Floats(rows * tile.TopFloats(k))
	w.weights, w.chosen, w.x, w.index, w.target = s.Floats(rows), s.Ints(k), s.Floats(k), s.Floats(k), s.Floats(k)
	for i := range min(rows, n) {
		if k > 0 {
			w.tops[i] = tile.NewTop(room[i*tile.TopFloats(k):], k)
		}
	}
	end := tile.Seen(c.Mask, g, first+n-1)
	dense := !a.aux && n >= dsaFew && end <= a.masked
	if dense {
		w.hidden = kernel.Words(s.Floats(dsaTiles * a.masked))
		w.q, w.o = s.Floats(dsaTiles*c.KeyDim*tile.Lanes), s.Floats(dsaTiles*c.ValueDim*tile.Lanes)
		w.scores, w.keys, w.values = s.Floats(dsaBlock*tile.Lanes), s.Floats(dsaBlock*c.KeyDim), s.Floats(dsaBlock*c.ValueDim)
		w.packed = s.Floats(kernel.PackedFloats(c.ValueDim, dsaBlock))
	}
	for i := 0; i < n; i += dsaRows {
		m := min(dsaRows, n-i)
		a.choose(&w, g, first+i, m)
		if dense {
			a.mark(&w, g, first+i, m, w.hidden[i/dsaRows*a.masked:][:end])
			continue
		}
		for r := range m {
			a.query(&w, g, first+i+r, w.tops[r].Sorted(w.chosen, w.index))
		}
	}
	if dense {
		for h := range c.Heads {
			a.attend(&w, g, first, n, end, h)
		}
	}
}

// choose fills the Tops of n queries.
func (a *dsaArgs) choose(w *dsaWork, g attn.Segment, first, n int) {
	c := &a.call
	end := tile.Seen(c.Mask, g, first+n-1)
	for lo := 0; lo < end; lo += topKeys {
		m := min(topKeys, end-lo)
		a.score(w, g, first, n, lo, m)
		for i := range n {
			if m := min(m, tile.Seen(c.Mask, g, first+i)-lo); m > 0 {
				w.tops[i].Take(w.sum[i*topKeys:][:m], lo)
			}
		}
	}
}

// score computes sum[i][j] = I of n queries for the keys lo to lo+m-1.
func (a *dsaArgs) score(w *dsaWork, g attn.Segment, first, n, lo, m int) {
	c, dim := &a.call, a.o.Dim
	keys := tile.HeadRows(&a.index, g.Row, g.Key0+lo, 0)
	part, sum := tile.Rows(w.part, topKeys), tile.Rows(w.sum, topKeys)
	if n >= fewRows {
		for j := 0; j < m; j += tile.Lanes {
			tile.Pack(w.panel[j*dim:], keys.From(j, 0), min(tile.Lanes, m-j), dim, 1)
		}
	}
	for i := range n {
		clear(w.sum[i*topKeys:][:m])
	}
	for h := range a.o.Heads {
		q := tile.HeadRows(&c.Extra[indexQ], g.Row, g.Query0+first, h)
		if n >= fewRows {
			for j := 0; j < m; j += tile.Lanes {
				tile.Mul(n, min(tile.Lanes, m-j), dim, q, tile.Rows(w.panel[j*dim:], tile.Lanes), part.From(0, j))
			}
		} else {
			scoreRows(nil, part, q, keys, n, m, dim)
		}
		for i := range n {
			w.weights[i] = c.Extra[indexW].Row(g.Row, g.Query0+first+i, h)[0]
		}
		kernel.ReLU(part, part, n, m)
		kernel.ScaleRows(w.weights[:n], part, m)
		for i := range n {
			kernel.Add(sum.Data[i*topKeys:][:m], part.Data[i*topKeys:])
		}
	}
}

// query attends to the chosen keys of a query, held of them, one by one.
func (a *dsaArgs) query(w *dsaWork, g attn.Segment, i, held int) {
	c := &a.call
	if a.lse != nil {
		copy(a.lists.Of(&c.Shape, g, 0, i), w.chosen[:held])
	}
	clear(w.target[:held])
	for h := range c.Heads {
		q, keys := c.Q.Row(g.Row, g.Query0+i, h), c.KVHead(h)
		for j, key := range w.chosen[:held] {
			w.x[j] = a.scale * tile.Dot(q, c.K.Row(g.Row, g.Key0+int(key), keys))
		}
		lse := a.lists.Attend(c, g, h, i, w.chosen[:held], w.x[:held])
		if a.lse != nil {
			a.lse[(g.Row*c.Heads+h)*c.QueryLen+g.Query0+i] = lse
		}
		if a.aux {
			tile.Axpy(1/float32(c.Heads), w.x[:held], w.target)
		}
	}
	if a.aux && held > 0 {
		a.loss[g.Row*c.QueryLen+g.Query0+i] = divergence(w.target[:held], w.index[:held])
	}
}
