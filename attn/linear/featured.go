package linear

import (
	"fmt"
	"sync"

	"attnbench/attn"
	"attnbench/attn/tile"
	"attnbench/internal/kernel"
)

// A featureMap is φ of linear attention over features, rows at a time. Queries and keys may have maps of their own.
type featureMap interface {
	// width returns the number of features.
	width(s attn.Shape) int
	// floats returns the scratch of a worker, weightFloats that of prepare.
	floats(s attn.Shape) int
	weightFloats(s attn.Shape) int
	// prepare fills weights, which back gets, from the call's tensors.
	prepare(c *attn.Call, weights []float32)
	// features writes φ of the rows x.
	features(s *attn.Scratch, r featureRows, phi tile.Mat)
	// back adds to dx the gradient of the rows, given that of their features. It may write to d.
	back(s *attn.Scratch, r featureRows, phi, d, dx tile.Mat)
	// flops returns those of the products behind the features of one row, and of all that Backward does for one.
	flops(s attn.Shape) (forward, backward int64)
}

// learner is a featureMap with learned tensors.
type learner interface {
	// learn adds the gradients of the tensors of one side from rows whose d back has written to.
	learn(r featureRows, d tile.Mat, g *attn.Grads)
	// shared reports whether both sides have the same tensors.
	shared() bool
}

// featureRows are rows of one head of queries or keys.
type featureRows struct {
	call    *attn.Call
	key     bool // keys, not queries
	n       int
	pos     int // of the first
	x       tile.Mat
	weights []float32
}

// featured is linear attention over features: they are written out for all tokens, and the rest is a Recurrence over them, whose
// key dim is their number.
type featured struct {
	rec  tile.Recurrence
	phi  featureMap
	info *attn.Info

	mu   sync.Mutex
	free []*innerCall // used again: a Recurrence keeps a pointer to its call, so that one on the stack would be garbage each time
}

// innerCall is a call of the recurrence.
type innerCall struct {
	call  attn.Call
	grads attn.Grads
	sums  [4][]float32 // gradients of the learned tensors, of this call alone
}

func (m *featured) take() *innerCall {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := len(m.free); n > 0 {
		x := m.free[n-1]
		m.free = m.free[:n-1]
		return x
	}
	return new(innerCall)
}

func (m *featured) put(x *innerCall) {
	*x = innerCall{} // let go of the caller's memory
	m.mu.Lock()
	defer m.mu.Unlock()
	m.free = append(m.free, x)
}

// describe completes the description with what the recurrence and the map know.
func (m *featured) describe(info attn.Info) {
	info.Family = "linear"
	info.Decode = attn.DecodeAlways
	info.Carry = func(s attn.Shape) int { return m.rec.Carry(m.inner(s)) }
	info.Cost = m.cost
	m.info = &info
}

// Info describes the mechanism.
func (m *featured) Info() attn.Info { return *m.info }

// inner is the shape of the recurrence.
func (m *featured) inner(s attn.Shape) attn.Shape {
	s.KeyDim = m.phi.width(s)
	return s
}

// unknownLen is the longest sequence of a state that is not told it.
const unknownLen = 1 << 16

const featureBlock = 64 // tokens of a task

// featureArgs is one pass over the tokens of a call.
type featureArgs struct {
	phi     featureMap
	call    attn.Call
	q, k    attn.View // features, [batch, heads, time, width]
	dq, dk  attn.View // their gradients
	grads   *attn.Grads
	weights []float32
	state   *tile.RecurState // of Extend
	blocks  int
	overlap bool // segments share keys
}

func (m *featured) args(ws *attn.Workspace, c *attn.Call) featureArgs {
	n := m.phi.width(c.Shape)
	a := featureArgs{
		phi: m.phi, call: *c, overlap: tile.KeysOverlap(c), blocks: (max(c.QueryLen, c.KeyLen) + featureBlock - 1) / featureBlock,
		q: byHeads(ws.Floats(c.Batch*c.QueryLen*c.Heads*n), c.Batch, c.QueryLen, c.Heads, n),
		k: byHeads(ws.Floats(c.Batch*c.KeyLen*c.KVHeads*n), c.Batch, c.KeyLen, c.KVHeads, n),
	}
	a.call.Saved = nil
	return a
}

// each runs f for the blocks of all segments.
func (a *featureArgs) each(ws *attn.Workspace, floats int, f func(s *attn.Scratch, a *featureArgs, task int)) {
	attn.Parallel(ws, a.call.NumSegments()*a.blocks, floats, *a, f)
}

// rows goes to the rows of a block of one side and calls f for each of its heads.
func (a *featureArgs) rows(task int, key bool, f func(r featureRows, row, at, h int)) {
	c := &a.call
	g, first := c.Segment(task/a.blocks), task%a.blocks*featureBlock
	pos := g.Pos0 + first
	if a.state != nil {
		pos = a.state.Len(g.Row) + first
	}
	v, at, n, heads := &c.K, g.Key0+first, min(featureBlock, g.Keys-first), c.KVHeads
	if !key {
		v, at, n, heads, pos = &c.Q, g.Query0+first, min(featureBlock, g.Queries-first), c.Heads, pos+g.Offset()
	}
	if n <= 0 {
		return
	}
	r := featureRows{call: c, key: key, n: n, pos: pos, weights: a.weights}
	step := n
	if key && a.overlap { // a key that segments share is the first one's
		step, r.n = 1, 1
	}
	for i := 0; i < n; i += step {
		r.pos = pos + i
		if key && a.overlap && a.taken(task/a.blocks, g.Row, at+i) {
			continue
		}
		for h := range heads {
			r.x = tile.HeadRows(v, g.Row, at+i, h)
			f(r, g.Row, at+i, h)
		}
	}
}

// taken reports whether a segment before the one given has the key at a place of a row.
func (a *featureArgs) taken(segment, row, key int) bool {
	for _, g := range a.call.Segments[:min(segment, len(a.call.Segments))] {
		if g.Row == row && g.Key0 <= key && key < g.Key0+g.Keys {
			return true
		}
	}
	return false
}

func writeFeatures(s *attn.Scratch, a *featureArgs, task int) {
	mark := *s
	for _, key := range []bool{false, true} {
		to := &a.q
		if key {
			to = &a.k
		}
		a.rows(task, key, func(r featureRows, row, at, h int) {
			*s = mark
			a.phi.features(s, r, tile.HeadRows(to, row, at, h))
		})
	}
}

func backFeatures(s *attn.Scratch, a *featureArgs, task int) {
	mark := *s
	for _, key := range []bool{false, true} {
		from, d, dx := &a.q, &a.dq, &a.grads.Q
		if key {
			from, d, dx = &a.k, &a.dk, &a.grads.K
		}
		a.rows(task, key, func(r featureRows, row, at, h int) {
			*s = mark
			a.phi.back(s, r, tile.HeadRows(from, row, at, h), tile.HeadRows(d, row, at, h), tile.HeadRows(dx, row, at, h))
		})
	}
}

// learnFeatures adds the gradients of learned tensors, of both sides or of one, segment after segment.
func learnFeatures(_ *attn.Scratch, a *featureArgs, task int) {
	l := a.phi.(learner)
	for _, key := range []bool{false, true} {
		if !l.shared() && key != (task == 1) {
			continue
		}
		d := &a.dq
		if key {
			d = &a.dk
		}
		for t := range a.call.NumSegments() * a.blocks {
			a.rows(t, key, func(r featureRows, row, at, h int) { l.learn(r, tile.HeadRows(d, row, at, h), a.grads) })
		}
	}
}

// recurrent is the call of the recurrence.
func (a *featureArgs) recurrent(c *attn.Call) attn.Call {
	r := *c
	r.KeyDim, r.Q, r.K = a.q.Dim, a.q, a.k
	r.Extra, r.Learned, r.Buffers = nil, nil, nil
	return r
}

// Forward computes the output.
func (m *featured) Forward(ws *attn.Workspace, c *attn.Call) error {
	if err := m.check(c); err != nil {
		return err
	}
	mark := ws.Mark()
	a := m.args(ws, c)
	a.each(ws, m.phi.floats(c.Shape), writeFeatures)
	inner := m.take()
	defer m.put(inner)
	inner.call = a.recurrent(c)
	m.rec.Forward(ws, &inner.call)
	ws.Release(mark)
	return nil
}

// check is Check and what the map asks of a call.
func (m *featured) check(c *attn.Call) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	if x, ok := m.phi.(interface{ admits(c *attn.Call) error }); ok {
		return x.admits(c)
	}
	return nil
}

// Backward adds the gradients of q, k, v and the learned tensors; it writes the features out again.
func (m *featured) Backward(ws *attn.Workspace, c *attn.Call, g *attn.Grads) error {
	if err := m.check(c); err != nil {
		return err
	}
	if err := g.Check(m.info, c); err != nil {
		return err
	}
	mark := ws.Mark()
	defer ws.Release(mark)
	a := m.args(ws, c)
	a.grads = g
	a.dq, a.dk, a.weights = a.q, a.k, ws.Floats(m.phi.weightFloats(c.Shape))
	a.dq.Data, a.dk.Data = ws.Zeros(len(a.q.Data)), ws.Zeros(len(a.k.Data))
	m.phi.prepare(c, a.weights)
	a.each(ws, m.phi.floats(c.Shape), writeFeatures)
	inner := m.take()
	defer m.put(inner)
	for i, x := range g.Learned { // what g holds may be large, and a token's part small: they are summed before
		inner.sums[i] = ws.Zeros(len(x))
	}
	inner.call, inner.grads = a.recurrent(c), *g
	inner.grads.Q, inner.grads.K, inner.grads.Extra, inner.grads.Learned = a.dq, a.dk, nil, nil
	m.rec.Backward(ws, &inner.call, &inner.grads)
	a.each(ws, m.phi.floats(c.Shape), backFeatures)
	if l, ok := m.phi.(learner); ok {
		tasks := 2
		if l.shared() {
			tasks = 1
		}
		inner.grads.Learned = inner.sums[:len(g.Learned)]
		a.grads = &inner.grads
		attn.Parallel(ws, tasks, 0, a, learnFeatures)
		for i, x := range g.Learned {
			kernel.Add(x, inner.sums[i])
		}
	}
	return nil
}

// NewState returns an empty state.
func (m *featured) NewState(s attn.Shape) (attn.State, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	state, err := m.rec.NewState(m.info.Name, m.inner(s))
	if err != nil {
		return nil, err // not a nil *RecurState in a State
	}
	return &featuredState{state, s.KeyDim}, nil
}

// featuredState is a state that knows the width of the keys behind its features.
type featuredState struct {
	*tile.RecurState
	keyDim int
}

// Extend appends the call's tokens to the state and computes its queries.
func (m *featured) Extend(ws *attn.Workspace, s attn.State, c *attn.Call) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	call := *c
	if call.MaxLen == 0 {
		call.MaxLen = unknownLen
	}
	inner := m.take()
	defer m.put(inner)
	inner.call = call
	inner.call.KeyDim = m.phi.width(c.Shape)
	own, ok := s.(*featuredState)
	if !ok || own == nil {
		return fmt.Errorf("%s: state is a %T: want one of its own", m.info.Name, s)
	}
	if own.keyDim != c.KeyDim {
		return fmt.Errorf("%s: state of key dim %d: the call has %d", m.info.Name, own.keyDim, c.KeyDim)
	}
	state := own.RecurState
	if err := m.rec.Admit(state, &inner.call); err != nil {
		return err
	}
	mark := ws.Mark()
	defer ws.Release(mark)
	a := m.args(ws, &call)
	a.state = state
	a.each(ws, m.phi.floats(c.Shape), writeFeatures)
	inner.call = a.recurrent(c)
	return m.rec.Extend(ws, state, &inner.call)
}

func (m *featured) cost(s attn.Shape, p attn.Pass) attn.Cost {
	n := m.phi.width(s)
	c := m.rec.Cost(m.inner(s), p)
	batch, q, k := int64(s.Batch), int64(s.QueryLen*s.Heads), int64(s.KeyLen*s.KVHeads)
	if p == attn.PassDecode {
		k = int64(s.QueryLen * s.KVHeads)
	}
	queries, keys := m.info.Inputs[0], m.info.Inputs[1]
	_, dq := queries.Size(s)
	_, dk := keys.Size(s)
	forward, backward := m.phi.flops(s)
	rows := attn.ScratchFloats(int(batch*q)*n, int(batch*k)*n)
	passes := int64(1) // over the inputs: read, and their gradients written
	if p == attn.PassBackward {
		passes = 2
		c.FLOPs += batch * (q + k) * backward
		rows += rows + attn.ScratchFloats(m.phi.weightFloats(s))
		for _, t := range m.info.Learned {
			rows += attn.ScratchFloats(t.Len(s))
		}
	} else {
		c.FLOPs += batch * (q + k) * forward
	}
	c.Bytes += 4 * passes * batch * (q*int64(dq-n) + k*int64(dk-n))
	c.Shared += 4 * int64(rows)
	c.PerWorker = max(c.PerWorker, 4*int64(attn.ScratchFloats(m.phi.floats(s))))
	if s.Batch == 0 || q+k == 0 {
		c.PerWorker = 0
	}
	return c
}
