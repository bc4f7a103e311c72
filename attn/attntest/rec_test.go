package attntest

import (
	"encoding/binary"
	"fmt"
	"math"

	"attnbench/attn"
)

func init() {
	attn.Register("rec", rec{}, func(o rec) (attn.Mechanism, error) { return newRec(""), nil })
}

// rec is a gated recurrence in plain loops, with a declared gate that may be absent and a learned gain:
//
//	S_t = diag(e^{g_t}) S_{t-1} + k_t v_tᵀ,  o_t = u_h S_tᵀ q_t
type rec struct {
	fault string
	info  *attn.Info
}

func (m rec) Info() attn.Info { return *m.info }

func newRec(fault string) rec {
	m := rec{fault: fault}
	m.info = &attn.Info{
		Name: "rec", Family: "linear", Title: "Gated recurrence in plain loops", Revision: 1, Masks: attn.Causal,
		Inputs: append(attn.QKV(), attn.Input{
			Name: "g", From: attn.MemorySide, Optional: true, Heads: attn.KVHeads, Width: attn.KeyWidth, Act: attn.LogSigmoid, Scale: 0.25,
		}),
		Learned: []attn.Tensor{{Name: "u", Shape: func(s attn.Shape) []int { return []int{s.Heads} }, Init: attn.Const(1)}},
		Carry:   func(s attn.Shape) int { return s.KVHeads * s.KeyDim * s.ValueDim },
		Cost:    m.cost,
	}
	return m
}

func (m rec) cost(s attn.Shape, p attn.Pass) attn.Cost {
	n := s.KeyDim * s.ValueDim
	work := int64(s.Batch * n * (s.KeyLen*s.KVHeads + s.QueryLen*s.Heads))
	c := attn.Cost{FLOPs: 2 * work, Bytes: 4 * int64(s.Batch*(s.QueryLen*s.Heads+s.KeyLen*s.KVHeads)*(s.KeyDim+s.ValueDim))}
	c.State = 4 * int64(s.Batch*s.KVHeads*n)
	c.Read = c.State
	if s.Batch == 0 {
		return c
	}
	switch p {
	case attn.PassForward:
		c.PerWorker = 4 * int64(attn.ScratchFloats(n))
		c.Saved = 4 * int64(attn.ScratchFloats(s.Batch*s.KeyLen*s.KVHeads*n))
	case attn.PassBackward:
		c.FLOPs = 6 * work
		c.PerWorker = 4 * int64(attn.ScratchFloats(n))
		c.Shared = 4 * int64(attn.ScratchFloats(s.Batch*s.Heads))
	}
	return c
}

func (m rec) define(c *attn.Call64) error {
	c.ZeroPadding()
	n := c.KeyDim * c.ValueDim
	c.EachHead(func(h attn.Head64) {
		s := make([]float64, n)
		at := (h.Index*c.KVHeads + h.KV) * n
		if c.Initial != nil {
			copy(s, c.Initial[at:])
		}
		for i := range min(h.Queries, -h.Offset()) {
			clear(h.Out(i))
		}
		for j := range h.Keys {
			for a, k := range h.K(j) {
				decay := 1.0
				if !c.Extra[0].Empty() {
					decay = math.Exp(h.KeySide(0, j)[a])
				}
				for b, v := range h.V(j) {
					s[a*c.ValueDim+b] = decay*s[a*c.ValueDim+b] + k*v
				}
			}
			if i := j - h.Offset(); i >= 0 {
				clear(h.Out(i))
				for a, q := range h.Q(i) {
					for b := range h.Out(i) {
						h.Out(i)[b] += c.Learned[0][h.H] * q * s[a*c.ValueDim+b]
					}
				}
			}
		}
		if c.Final != nil {
			copy(c.Final[at:], s)
		}
	})
	return nil
}

type recArgs struct {
	m     rec
	c     *attn.Call
	g     *attn.Grads
	saved []float32 // [batch, key, kv heads, key dim, value dim]: the state after each token
	du    []float32 // [segments, heads]
}

// step takes token t of a row into the state.
func (m rec) step(s []float32, c *attn.Call, row, t, kv int) {
	v := c.V.Row(row, t, kv)
	for a, k := range c.K.Row(row, t, kv) {
		decay := float32(1)
		if !c.Extra[0].Empty() {
			decay = float32(math.Exp(float64(c.Extra[0].Row(row, t, kv)[a])))
		}
		x := s[a*len(v):][:len(v)]
		for b := range x {
			x[b] = decay*x[b] + k*v[b]
		}
	}
}

// read computes the outputs of the query heads that read key/value head kv, query i of g.
func (m rec) read(s []float32, c *attn.Call, g attn.Segment, i, kv int) {
	group := c.Heads / c.KVHeads
	for h := kv * group; h < (kv+1)*group; h++ {
		out := c.Out.Row(g.Row, g.Query0+i, h)
		clear(out)
		for a, q := range c.Q.Row(g.Row, g.Query0+i, h) {
			for b := range out {
				out[b] += q * s[a*len(out)+b]
			}
		}
		for b := range out {
			out[b] *= c.Learned[0][h]
		}
		if m.fault == "an infinite gate reaches a query before it" && i == 0 && !c.Extra[0].Empty() &&
			math.IsInf(float64(c.Extra[0].Row(g.Row, c.KeyLen-1, kv)[0]), 0) {
			out[0] += 1e-4
		}
	}
}

func (m rec) Forward(ws *attn.Workspace, c *attn.Call) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	c.ZeroPadding()
	n := c.KeyDim * c.ValueDim
	a := recArgs{m: m, c: c}
	if c.Saved != nil {
		a.saved = c.Saved.Floats(c.Batch * c.KeyLen * c.KVHeads * n)
	}
	attn.Parallel(ws, c.NumSegments()*c.KVHeads, n, a, func(scratch *attn.Scratch, a *recArgs, task int) {
		c := a.c
		seg, kv := task/c.KVHeads, task%c.KVHeads
		g, n := c.Segment(seg), c.KeyDim*c.ValueDim
		s := scratch.Floats(n)
		clear(s)
		if c.Initial != nil {
			copy(s, c.Initial[task*n:])
		}
		for i := range min(g.Queries, -g.Offset()) {
			for h := kv * c.Heads / c.KVHeads; h < (kv+1)*c.Heads/c.KVHeads; h++ {
				clear(c.Out.Row(g.Row, g.Query0+i, h))
			}
		}
		keys := g.Keys
		if a.m.fault == "padding runs through the recurrent state" && c.Segments != nil && len(c.Segments) <= c.Batch {
			keys = c.KeyLen - g.Key0
		}
		for j := range keys {
			a.m.step(s, c, g.Row, g.Key0+j, kv)
			if a.saved != nil {
				copy(a.saved[((g.Row*c.KeyLen+g.Key0+j)*c.KVHeads+kv)*n:], s)
			}
			if i := j - g.Offset(); i >= 0 && i < g.Queries {
				a.m.read(s, c, g, i, kv)
			}
		}
		if c.Final != nil {
			copy(c.Final[task*n:(task+1)*n], s)
			if a.m.fault == "final state is the one before the last token" && g.Keys > 0 && c.Initial != nil {
				copy(c.Final[task*n:(task+1)*n], c.Initial[task*n:])
			}
		}
	})
	return nil
}

func (m rec) Backward(ws *attn.Workspace, c *attn.Call, g *attn.Grads) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	if err := g.Check(m.info, c); err != nil {
		return err
	}
	n := c.KeyDim * c.ValueDim
	mark := ws.Mark()
	a := recArgs{m: m, c: c, g: g, saved: c.Saved.Part(0), du: ws.Zeros(c.NumSegments() * c.Heads)}
	attn.Parallel(ws, c.NumSegments()*c.KVHeads, n, a, backwardTask)
	for i, x := range a.du {
		if m.fault != "gradient of the learned tensor missing" {
			g.Learned[0][i%c.Heads] += x
		}
	}
	ws.Release(mark)
	return nil
}

func backwardTask(scratch *attn.Scratch, a *recArgs, task int) {
	c := a.c
	seg, kv := task/c.KVHeads, task%c.KVHeads
	g, n, dv := c.Segment(seg), c.KeyDim*c.ValueDim, c.ValueDim
	ds := scratch.Floats(n)
	clear(ds)
	if a.g.Final != nil {
		copy(ds, a.g.Final[task*n:])
	}
	state := func(j int) []float32 { return a.saved[((g.Row*c.KeyLen+g.Key0+j)*c.KVHeads+kv)*n:][:n] }
	group := c.Heads / c.KVHeads
	for j := g.Keys - 1; j >= 0; j-- {
		s := state(j)
		for h := kv * group; h < (kv+1)*group; h++ {
			i := j - g.Offset()
			if i < 0 {
				break
			}
			u := c.Learned[0][h]
			do := a.g.Out.Row(g.Row, g.Query0+i, h)
			q, dq := c.Q.Row(g.Row, g.Query0+i, h), a.g.Q.Row(g.Row, g.Query0+i, h)
			for x := range q {
				sum := dot(s[x*dv:][:dv], do)
				dq[x] += u * sum
				a.du[seg*c.Heads+h] += q[x] * sum
				for y := range do {
					ds[x*dv+y] += u * q[x] * do[y]
				}
			}
		}
		k, v := c.K.Row(g.Row, g.Key0+j, kv), c.V.Row(g.Row, g.Key0+j, kv)
		dk, dvv := a.g.K.Row(g.Row, g.Key0+j, kv), a.g.V.Row(g.Row, g.Key0+j, kv)
		for x := range k {
			row := ds[x*dv:][:dv]
			dk[x] += dot(row, v)
			for y := range v {
				dvv[y] += row[y] * k[x]
			}
			if c.Extra[0].Empty() {
				continue
			}
			decay := float32(math.Exp(float64(c.Extra[0].Row(g.Row, g.Key0+j, kv)[x])))
			var before []float32
			if j > 0 {
				before = state(j - 1)[x*dv:][:dv]
			} else if c.Initial != nil {
				before = c.Initial[task*n+x*dv:][:dv]
			}
			if before != nil && a.m.fault != "gradient of an optional input missing" {
				a.g.Extra[0].Row(g.Row, g.Key0+j, kv)[x] += decay * dot(row, before)
			}
			for y := range row {
				row[y] *= decay
			}
		}
	}
	if c.Initial != nil && a.m.fault != "gradient of the initial state missing" {
		for i, x := range ds {
			a.g.Initial[task*n+i] += x
		}
	}
}

type recState struct {
	m      rec
	shape  attn.Shape
	length []int
	data   []float32 // [batch, kv heads, key dim, value dim]
}

func (m rec) NewState(s attn.Shape) (attn.State, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	if s.Mask != attn.Causal {
		return nil, fmt.Errorf("rec: mask is %v: want causal", s.Mask)
	}
	return &recState{m, s, make([]int, s.Batch), make([]float32, s.Batch*s.KVHeads*s.KeyDim*s.ValueDim)}, nil
}

func (m rec) Extend(ws *attn.Workspace, state attn.State, c *attn.Call) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	s, ok := state.(*recState)
	if !ok || s.shape.Batch != c.Batch || s.shape.KVHeads != c.KVHeads || s.shape.KeyDim != c.KeyDim || s.shape.ValueDim != c.ValueDim {
		return fmt.Errorf("rec: state does not fit the call: want one of NewState with its shape")
	}
	c.ZeroPadding()
	n := c.KeyDim * c.ValueDim
	for i := range c.NumSegments() {
		g := c.Segment(i)
		keys := g.Keys
		if m.fault == "ragged rows advance together" {
			keys = c.KeyLen
		}
		for kv := range c.KVHeads {
			x := s.data[(g.Row*c.KVHeads+kv)*n:][:n]
			for j := range keys {
				m.step(x, c, g.Row, g.Key0+j, kv)
				if q := j - g.Offset(); q >= 0 && q < g.Queries {
					m.read(x, c, g, q, kv)
				}
			}
		}
		s.length[g.Row] += g.Keys
	}
	return nil
}

func (s *recState) row(b int) []float32 {
	n := len(s.data) / max(1, len(s.length))
	return s.data[b*n : (b+1)*n]
}
func (s *recState) Len(row int) int  { return s.length[row] }
func (s *recState) Bytes() int64     { return 4 * int64(len(s.data)) }
func (s *recState) ReadBytes() int64 { return s.Bytes() }
func (s *recState) Reset(row int) {
	s.length[row] = 0
	clear(s.row(row))
}

func (s *recState) Reorder(from []int) error {
	if len(from) != len(s.length) {
		return fmt.Errorf("rec: reorder of %d rows: want %d", len(from), len(s.length))
	}
	for _, f := range from {
		if f < 0 || f >= len(from) {
			return fmt.Errorf("rec: reorder from row %d: want 0 to %d", f, len(from)-1)
		}
	}
	data, length := append([]float32(nil), s.data...), append([]int(nil), s.length...)
	for i, f := range from {
		s.length[i] = length[f]
		copy(s.row(i), data[f*len(s.row(i)):])
	}
	return nil
}

func (s *recState) MarshalBinary() ([]byte, error) {
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(s.length)))
	for _, n := range s.length {
		b = binary.LittleEndian.AppendUint32(b, uint32(n))
	}
	for _, x := range s.data {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return b, nil
}

func (s *recState) UnmarshalBinary(b []byte) error {
	if len(b) != 4*(1+len(s.length)+len(s.data)) || binary.LittleEndian.Uint32(b) != uint32(len(s.length)) {
		return fmt.Errorf("rec: state data is cut or of another shape")
	}
	next := func() uint32 {
		b = b[4:]
		return binary.LittleEndian.Uint32(b)
	}
	for i := range s.length {
		s.length[i] = int(next())
	}
	for i := range s.data {
		s.data[i] = math.Float32frombits(next())
	}
	return nil
}
