package sparse

import (
	"attnbench/attn"
	"attnbench/attn/tile"
)

const (
	topRows = 128 // queries that a task scores together
	topKeys = 256 // candidates that they are scored with at once
	fewRows = 4   // below so many, candidates are read where they lie
)

// summaries are those of a call's blocks.
type summaries struct {
	view   attn.View // [batch, blocks, kv heads, width]
	layout []attn.Segment
	most   int // of a row
}

// summarise computes the summaries of a call's keys, or finds them in its state unless that is nil. The layout goes back to the pool.
func summarise(ws *attn.Workspace, p *tile.SegmentPool, m tile.Summary, c *attn.Call, state attn.State) (s summaries) {
	s.layout, s.most = m.Layout(p.Take(), c, state != nil)
	if state != nil {
		s.view = tile.Summaries(state)
	} else {
		s.view = m.Compute(ws, c, s.layout, s.most)
	}
	return s
}

// scan finds for each query the candidates c of largest q·c: keys, or summaries of the blocks in front of the query's own.
type scan struct {
	call   attn.Call
	from   summaries // unless the candidates are keys
	block  int       // tokens a candidate; 0: the candidates are the call's keys
	most   int
	groups int // of the queries of the longest segment
}

// tasks completes the scan and returns the number of its tasks.
func (a *scan) tasks() int {
	a.call.Saved = nil
	longest := 0
	for i := range a.call.NumSegments() {
		longest = max(longest, a.call.Segment(i).Queries)
	}
	a.groups = ceil(longest, topRows)
	return a.call.NumSegments() * a.call.Heads * a.groups
}

// scanRows returns the rows that scratch is for.
func scanRows(s attn.Shape) int { return min(topRows, s.QueryLen) }

func scanFloats(s attn.Shape, most int) int {
	n := scanRows(s)
	return attn.ScratchFloats(tile.Lanes*s.KeyDim, n*topKeys, n*tile.TopFloats(most))
}

// candidates returns how many query i of segment g chooses from.
func (a *scan) candidates(g attn.Segment, i int) int {
	n := tile.Seen(a.call.Mask, g, i)
	if a.block > 0 {
		return max(0, n-1) / a.block
	}
	return n
}

// group is the queries of a task: n of segment g from first on, of one head.
type group struct {
	g              attn.Segment
	head, first, n int
	top            [topRows]tile.Top
}

// run fills the Tops of a group of queries of one head; within a head the last come first: they see the most.
func (a *scan) run(s *attn.Scratch, task int, t *group) {
	c := &a.call
	segment := task / a.groups / c.Heads
	t.first = (a.groups - 1 - task%a.groups) * topRows
	t.head, t.g = task/a.groups%c.Heads, c.Segment(segment)
	if t.n = min(topRows, t.g.Queries-t.first); t.n <= 0 {
		return
	}
	panel, scores := s.Floats(tile.Lanes*c.KeyDim), s.Floats(scanRows(c.Shape)*topKeys)
	room := s.Floats(scanRows(c.Shape) * tile.TopFloats(a.most))
	if a.most == 0 {
		return
	}
	for i := range t.n {
		t.top[i] = tile.NewTop(room[i*tile.TopFloats(a.most):], a.most)
	}
	q, kv := tile.HeadRows(&c.Q, t.g.Row, t.g.Query0+t.first, t.head), c.KVHead(t.head)
	var from tile.Mat
	switch {
	case a.block == 0:
		from = tile.HeadRows(&c.K, t.g.Row, t.g.Key0, kv)
	default:
		from = tile.HeadRows(&a.from.view, t.g.Row, a.from.layout[segment].Key0, kv)
	}
	end := a.candidates(t.g, t.first+t.n-1)
	for lo := 0; lo < end; lo += topKeys {
		w := min(topKeys, end-lo)
		scoreRows(panel, tile.Rows(scores, topKeys), q, from.From(lo, 0), t.n, w, c.KeyDim)
		for i := range t.n {
			if w := min(w, a.candidates(t.g, t.first+i)-lo); w > 0 {
				t.top[i].Take(scores[i*topKeys:][:w], lo)
			}
		}
	}
}

// scoreRows computes out[i][j] = x[i]·y[j] for n rows of x and m rows of y.
func scoreRows(panel []float32, out, x, y tile.Mat, n, m, dim int) {
	if n < fewRows { // decoding: a transposed copy of y would cost more than the products
		for i := range n {
			tile.Dots(out.Data[i*out.Row:][:m], x.Data[i*x.Row:][:dim], y, m)
		}
		return
	}
	for j := 0; j < m; j += tile.Lanes {
		w := min(tile.Lanes, m-j)
		tile.Pack(panel, y.From(j, 0), w, dim, 1)
		tile.Mul(n, w, dim, x, tile.Rows(panel, tile.Lanes), out.From(0, j))
	}
}

// chooseArgs writes what each query chooses.
type chooseArgs struct {
	scan
	to     tile.Chosen
	choice []int32
}

// reserveFor returns the scratch a worker of choose.
func reserveFor(s attn.Shape, a tile.Chosen, width int) int {
	s.KeyDim = width
	return scanFloats(s, a.Most)
}

// choose writes for each query the blocks in front of its own whose summaries score highest.
func choose(ws *attn.Workspace, c *attn.Call, a tile.Chosen, from summaries, choice []int32) {
	args := chooseArgs{scan{call: *c, from: from, block: a.Size, most: a.Most}, a, choice}
	attn.Parallel(ws, args.tasks(), scanFloats(c.Shape, a.Most), args, func(s *attn.Scratch, a *chooseArgs, task int) {
		var t group
		a.run(s, task, &t)
		for i := range max(t.n, 0) {
			to := a.to.Choice(a.choice, &a.call.Shape, t.g, t.head, t.first+i)
			for n := t.top[i].Sorted(to, nil); n < len(to); n++ {
				to[n] = -1
			}
		}
	})
}
