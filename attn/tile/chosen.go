package tile

import (
	"math"

	"attnbench/attn"
	"attnbench/internal/kernel"
)

// Chosen is softmax attention of each query, under the causal mask, to the keys of its own block up to itself and to all keys of
// earlier blocks that it chose. Only what was chosen is computed: the queries that chose a block are brought together, 32 a tile,
// and what each gets of its blocks is merged by the log-sum-exp (Lu et al. 2025, arXiv:2502.13189 §2.2).
type Chosen struct {
	Softmax
	Size   int  // tokens a block
	Most   int  // blocks that a query chooses at most
	Shared bool // the query heads of a key/value head choose together; else each alone
}

// NewChosen returns attention to chosen blocks of so many tokens; base has OwnBlock(size) for its pattern.
func NewChosen(base Softmax, size, most int, shared bool) Chosen {
	return Chosen{Softmax: base, Size: size, Most: most, Shared: shared}
}

// Reserve returns a with that many floats a worker asked for in all passes, so that scratch has one closed form.
func (a Chosen) Reserve(floats int) Chosen {
	a.reserve = floats
	return a
}

// Sets returns how many sets of choices there are.
func (a Chosen) Sets(s attn.Shape) int {
	if a.Shared {
		return s.KVHeads
	}
	return s.Heads
}

// ChoiceLen returns the length of the choices of a call.
func (a Chosen) ChoiceLen(s attn.Shape) int { return s.Batch * a.Sets(s) * s.QueryLen * a.Most }

// Choice returns the place of the blocks that query i of segment g chooses, numbers in increasing order, then -1.
func (a Chosen) Choice(choice []int32, s *attn.Shape, g attn.Segment, set, i int) []int32 {
	return choice[((g.Row*a.Sets(*s)+set)*s.QueryLen+g.Query0+i)*a.Most:][:a.Most]
}

const (
	unitRows  = 1024 // accumulators of a task
	unitTiles = 4    // tiles that share a block's keys
)

// unit returns how many queries a task takes, of so many heads each.
func (a Chosen) unit(s attn.Shape) int {
	return min(s.QueryLen, max(Lanes, unitRows/(s.Heads/a.Sets(s))))
}

func (a Chosen) unitFloats(s attn.Shape) int {
	n := a.unit(s)
	rows := n * s.Heads / a.Sets(s)
	return attn.ScratchFloats(rows*s.ValueDim, rows, rows, n*a.Most, ceil(s.KeyLen, a.Size), Lanes*s.KeyDim, Lanes*s.ValueDim,
		unitTiles*s.KeyDim*Lanes, unitTiles*s.ValueDim*Lanes, keyBlock*Lanes, keyBlock*s.KeyDim, kernel.PackedFloats(s.ValueDim, keyBlock))
}

// ForwardSums computes c.Out and lse [batch, heads, queries], log₂ of each row's softmax sum, from the choices.
func (a Chosen) ForwardSums(ws *attn.Workspace, c *attn.Call, lse []float32, choice []int32) {
	a.reserve = max(a.reserve, a.unitFloats(c.Shape))
	a.forward(ws, c, lse, 0)
	args := chosenArgs{Chosen: a, call: *c, scale: a.scale(c), lse: lse, choice: choice}
	args.call.Saved = nil
	args.groups = ceil(longest(c), max(1, a.unit(c.Shape)))
	tasks := c.NumSegments() * a.Sets(c.Shape) * args.groups
	attn.Parallel(ws, tasks, a.reserve, args, func(s *attn.Scratch, a *chosenArgs, task int) { a.run(s, task) })
}

type chosenArgs struct {
	Chosen
	call   attn.Call
	scale  float32
	lse    []float32
	choice []int32
	groups int // of the queries of the longest segment
}

// unit is the queries of a task: n of segment g from first on, of the heads head to head+each-1.
type unit struct {
	g                    attn.Segment
	first, n, head, each int
	acc, top, sum        []float32 // of each query and head: Σ w·v, the maximum of the scores so far and Σ w
	items, end           []int32   // the queries that chose each block, block after block, and where those of a block end
	rowsK, rowsV         []float32
}

// gather sorts the queries n of segment g from first on by the blocks that they chose; end gets where those of each block end.
func (a Chosen) gather(items, end, choice []int32, s *attn.Shape, g attn.Segment, set, first, n int) int {
	clear(end)
	total := int32(0)
	for i := range n {
		for _, b := range a.Choice(choice, s, g, set, first+i) {
			if b >= 0 {
				end[b]++
			}
		}
	}
	for b, count := range end {
		end[b] = total // where the block's begin, for now
		total += count
	}
	for i := range n {
		for _, b := range a.Choice(choice, s, g, set, first+i) {
			if b >= 0 {
				items[end[b]] = int32(i)
				end[b]++
			}
		}
	}
	return int(total)
}

// run computes the chosen blocks of a group of queries.
func (a *chosenArgs) run(s *attn.Scratch, task int) {
	c := &a.call
	rows, sets := a.unit(c.Shape), a.Sets(c.Shape)
	g := c.Segment(task / a.groups / sets)
	set := task / a.groups % sets
	u := unit{g: g, first: (a.groups - 1 - task%a.groups) * rows, each: c.Heads / sets}
	u.head = set * u.each
	if u.n = min(rows, g.Queries-u.first); u.n <= 0 {
		return
	}
	r := rows * u.each
	u.acc, u.top, u.sum = s.Floats(r*c.ValueDim), s.Floats(r), s.Floats(r)
	u.items, u.end = s.Ints(rows*a.Most), s.Ints(ceil(c.KeyLen, a.Size))[:ceil(g.Keys, a.Size)]
	u.rowsK, u.rowsV = s.Floats(Lanes*c.KeyDim), s.Floats(Lanes*c.ValueDim)
	if a.gather(u.items, u.end, a.choice, &c.Shape, g, set, u.first, u.n) == 0 {
		return
	}
	f := forwardHead{
		p: Dense{}, soft: &a.Softmax, dk: c.KeyDim, dv: c.ValueDim,
		q: s.Floats(unitTiles * c.KeyDim * Lanes), o: s.Floats(unitTiles * c.ValueDim * Lanes),
		scores: s.Floats(keyBlock * Lanes), roomK: s.Floats(keyBlock * c.KeyDim), room: s.Floats(kernel.PackedFloats(c.ValueDim, keyBlock)),
	}
	a.begin(&u)
	k, v := sideOf(&c.K, g, c.KVHead(u.head)), sideOf(&c.V, g, c.KVHead(u.head))
	from := int32(0)
	for b, end := range u.end {
		if from == end {
			continue
		}
		f.k, f.v = side{k.data[b*a.Size*k.stride:], k.stride}, side{v.data[b*a.Size*v.stride:], v.stride}
		a.block(&f, &u, u.items[from:end], min(a.Size, g.Keys-b*a.Size))
		from = end
	}
	a.finish(&u)
}

// begin starts from what the queries got of their own blocks.
func (a *chosenArgs) begin(u *unit) {
	c := &a.call
	for i := range u.n {
		for h := range u.each {
			r, at := i*u.each+h, u.g.Query0+u.first+i
			copy(u.acc[r*c.ValueDim:], c.Out.Row(u.g.Row, at, u.head+h))
			u.sum[r] = 1
			if u.top[r] = a.lse[(u.g.Row*c.Heads+u.head+h)*c.QueryLen+at]; u.top[r] == kernel.NegInf {
				u.sum[r] = 0
			}
		}
	}
}

// block takes a block of keys into the accumulators of the queries that chose it.
func (a *chosenArgs) block(f *forwardHead, u *unit, items []int32, keys int) {
	c := &a.call
	total := len(items) * u.each
	for lo := 0; lo < total; lo += unitTiles * Lanes {
		tiles := min(unitTiles, ceil(total-lo, Lanes))
		for i := range tiles {
			n := min(Lanes, total-lo-i*Lanes)
			for l := range n {
				e := lo + i*Lanes + l
				copy(u.rowsK[l*f.dk:][:f.dk], c.Q.Row(u.g.Row, u.g.Query0+u.first+int(items[e/u.each]), u.head+e%u.each))
			}
			kernel.Pack(f.tileQ(i), kernel.Rows(u.rowsK, f.dk), n, f.dk, a.scale*kernel.Log2E)
			f.walk[i].t = Tile{Mask: attn.Cross, Rows: n, Keys: keys}
		}
		f.attend(0, tiles, false)
		for i := range tiles {
			a.merge(f, u, items, lo+i*Lanes, i)
		}
	}
}

// merge takes the result of tile i, whose lanes are the items from at on.
func (a *chosenArgs) merge(f *forwardHead, u *unit, items []int32, at, i int) {
	st, n := &f.state[i], f.walk[i].t.Rows
	var own, of [Lanes]float32 // factors of what is there and of what comes
	for l := range n {
		e := at + l
		r := int(items[e/u.each])*u.each + e%u.each
		top := max(u.top[r], st.Max[l])
		if st.Sum[l] == 0 {
			top = u.top[r]
		} else {
			of[l] = exp2(st.Max[l] - top)
		}
		own[l] = 1
		if top != u.top[r] {
			own[l] = exp2(u.top[r] - top)
		}
		u.top[r], u.sum[r] = top, own[l]*u.sum[r]+of[l]*st.Sum[l]
	}
	kernel.Unpack(kernel.Rows(u.rowsV, f.dv), f.tileO(i), n, f.dv, of[:])
	for l := range n {
		e := at + l
		acc := u.acc[(int(items[e/u.each])*u.each+e%u.each)*f.dv:][:f.dv]
		if own[l] != 1 {
			kernel.Scale(own[l], acc)
		}
		kernel.Add(acc, u.rowsV[l*f.dv:][:f.dv])
	}
}

func exp2(x float32) float32 { return float32(math.Exp2(float64(x))) }

// finish writes the outputs and sums.
func (a *chosenArgs) finish(u *unit) {
	c := &a.call
	for i := range u.n {
		for h := range u.each {
			r, at := i*u.each+h, u.g.Query0+u.first+i
			if u.sum[r] == 0 {
				continue // the query sees no key
			}
			out := c.Out.Row(u.g.Row, at, u.head+h)
			for e, x := range u.acc[r*c.ValueDim:][:c.ValueDim] {
				out[e] = x / u.sum[r]
			}
			a.lse[(u.g.Row*c.Heads+u.head+h)*c.QueryLen+at] = u.top[r] + float32(math.Log2(float64(u.sum[r])))
		}
	}
}

// Cost returns the closed-form costs of a pass, given the pairs of one batch row that all its heads compute together. Choosing
// is not in it but for the choices themselves.
func (a Chosen) Cost(s attn.Shape, p attn.Pass, pairs int64) attn.Cost {
	c := a.Softmax.Cost(s, p, pairs)
	c.Shared, c.PerWorker = a.Scratch(s, p)
	own := bytesOf(s.Batch*s.Heads*s.QueryLen) + bytesOf(a.ChoiceLen(s))
	switch empty := s.Batch == 0 || s.QueryLen == 0; {
	case p == attn.PassBackward && !empty:
		c.Bytes += own
	case p == attn.PassDecode && s.QueryLen < few && !empty:
		c.Shared += bytesOf(a.ChoiceLen(s))
	case p != attn.PassBackward && !empty:
		c.Shared += own
	}
	if p == attn.PassForward {
		c.Saved = own
	}
	return c
}

// Scratch returns what a pass takes of the workspace beside the choices and, forward, the sums: shared, and for each worker.
func (a Chosen) Scratch(s attn.Shape, p attn.Pass) (shared, worker int64) {
	empty := s.Batch == 0 || s.QueryLen == 0
	switch {
	case p == attn.PassBackward && !empty && s.KeyLen > 0:
		a.reserve = max(a.reserve, a.backwardFloats(s))
		shared, _ = a.Softmax.Scratch(s, p)
		return shared + bytesOf(s.Batch*s.Heads*s.QueryLen) + bytesOf(a.share(s).extraQ(s)), 4 * int64(max(a.reserve, a.Softmax.backwardFloats(s)))
	case p == attn.PassForward, p == attn.PassDecode && s.QueryLen >= few:
		a.reserve = max(a.reserve, a.unitFloats(s))
	}
	return a.Softmax.Scratch(s, p)
}
