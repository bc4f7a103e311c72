package tile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"

	"attnbench/attn"
	"attnbench/internal/kernel"
)

// LevelState is the decoding state of Levels: for each row and level one state a head, as it was when its last token came, and the sum of
// the log decays since. After n tokens level l > 0 holds tokens if bit l-1 of n-1 is set; level 0 holds the last token. It grows by a
// level each time that the length passes a power of two.
type LevelState struct {
	width int
	name  string
	shape attn.Shape
	rows  []levelRow
}

type levelRow struct {
	n      int
	levels [][]float32 // [kv heads, key dim, value dim] each
	sums   [][]float64 // [kv heads] each
}

// NewState returns an empty state for shape.Batch sequences of the mechanism name.
func (r *Levels) NewState(name string, shape attn.Shape) (*LevelState, error) {
	if err := shape.Check(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if shape.Mask != attn.Causal {
		return nil, fmt.Errorf("%s: decoding with mask %v: want causal", name, shape.Mask)
	}
	return &LevelState{r.Width, name, shape, make([]levelRow, shape.Batch)}, nil
}

// levelsOf is the number of levels that a state of n tokens has, usedOf that of levels that hold tokens.
func levelsOf(n int) int {
	if n == 0 {
		return 0
	}
	return 1 + bits.Len(uint(n-1))
}

func usedOf(n int) int {
	if n == 0 {
		return 0
	}
	return 1 + bits.OnesCount(uint(n-1))
}

// levelBytes is the size of one level of a row: its states and its sums.
func levelBytes(s attn.Shape) int64 { return int64(s.KVHeads) * int64(4*s.KeyDim*s.ValueDim+8) }

func (s *LevelState) Len(row int) int { return s.rows[row].n }

func (s *LevelState) Bytes() (n int64) {
	for _, r := range s.rows {
		n += int64(len(r.levels)) * levelBytes(s.shape)
	}
	return n
}

func (s *LevelState) ReadBytes() (n int64) {
	for _, r := range s.rows {
		n += int64(usedOf(r.n)) * levelBytes(s.shape)
	}
	return n
}

func (s *LevelState) Reset(row int) { s.rows[row] = levelRow{} }

// grow gives a row the levels of n tokens.
func (s *LevelState) grow(row, n int) {
	r := &s.rows[row]
	for len(r.levels) < levelsOf(n) {
		r.levels = append(r.levels, make([]float32, s.shape.KVHeads*s.shape.KeyDim*s.shape.ValueDim))
		r.sums = append(r.sums, make([]float64, s.shape.KVHeads))
	}
}

func (s *LevelState) Reorder(from []int) error {
	if len(from) != len(s.rows) {
		return fmt.Errorf("%s: reorder of %d rows: want %d", s.name, len(from), len(s.rows))
	}
	rows := make([]levelRow, len(from))
	for i, f := range from {
		if f < 0 || f >= len(s.rows) {
			return fmt.Errorf("%s: reorder: row %d from %d: want 0 to %d", s.name, i, f, len(s.rows)-1)
		}
		rows[i].n = s.rows[f].n
		for l, x := range s.rows[f].levels {
			rows[i].levels = append(rows[i].levels, append([]float32(nil), x...))
			rows[i].sums = append(rows[i].sums, append([]float64(nil), s.rows[f].sums[l]...))
		}
	}
	s.rows = rows
	return nil
}

// levelMagic begins a serialised state.
const levelMagic = "attnbench level state 1\n"

func (s *LevelState) sizes() []int {
	return []int{s.shape.Batch, s.shape.KVHeads, s.shape.KeyDim, s.shape.ValueDim}
}

// MarshalBinary writes the mechanism's name, the shape, the lengths and the levels, little endian.
func (s *LevelState) MarshalBinary() ([]byte, error) {
	b := []byte(levelMagic + s.name + "\n")
	for _, n := range s.sizes() {
		b = binary.LittleEndian.AppendUint64(b, uint64(n))
	}
	for _, r := range s.rows {
		b = binary.LittleEndian.AppendUint64(b, uint64(r.n))
	}
	for _, r := range s.rows {
		for l := range r.levels {
			for _, x := range r.levels[l] {
				b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
			}
			for _, x := range r.sums[l] {
				b = binary.LittleEndian.AppendUint64(b, math.Float64bits(x))
			}
		}
	}
	return b, nil
}

func (s *LevelState) UnmarshalBinary(data []byte) error {
	if err := s.unmarshal(data); err != nil {
		return fmt.Errorf("%s: state: %w", s.name, err)
	}
	return nil
}

func (s *LevelState) unmarshal(data []byte) error {
	data, ok := bytes.CutPrefix(data, []byte(levelMagic))
	if !ok {
		return errors.New("not a level state of this version")
	}
	name, data, ok := bytes.Cut(data, []byte("\n"))
	if !ok || string(name) != s.name {
		return fmt.Errorf("of mechanism %.80q: want %q", name, s.name)
	}
	if want := 8 * (4 + len(s.rows)); len(data) < want {
		return fmt.Errorf("%d bytes: want at least %d", len(data), want)
	}
	next := func() uint64 {
		n := binary.LittleEndian.Uint64(data)
		data = data[8:]
		return n
	}
	for i, want := range s.sizes() {
		if got := next(); got != uint64(want) {
			return fmt.Errorf("%s is %d: want %d", [...]string{"batch", "key/value heads", "key dim", "value dim"}[i], got, want)
		}
	}
	read := LevelState{shape: s.shape, rows: make([]levelRow, len(s.rows))}
	size := int64(0)
	for i := range read.rows {
		n := next()
		if n > 1<<48 {
			return fmt.Errorf("row %d: a length out of range: want at most 2^48", i)
		}
		read.rows[i].n = int(n)
		size += int64(levelsOf(int(n))) * levelBytes(s.shape)
	}
	if int64(len(data)) != size {
		return fmt.Errorf("%d bytes of levels: want %d", len(data), size)
	}
	for i := range read.rows {
		r := &read.rows[i]
		read.grow(i, r.n)
		for l := range r.levels {
			for j := range r.levels[l] {
				r.levels[l][j] = math.Float32frombits(binary.LittleEndian.Uint32(data))
				data = data[4:]
			}
			for j := range r.sums[l] {
				r.sums[l][j] = math.Float64frombits(next())
			}
		}
	}
	s.rows = read.rows
	return nil
}

// admits reports a call that the state cannot be extended by.
func (s *LevelState) admits(width int, c *attn.Call) error {
	a, b := s.shape, c.Shape
	if s.width != width || a.Batch != b.Batch || a.Heads != b.Heads || a.KVHeads != b.KVHeads || a.KeyDim != b.KeyDim || a.ValueDim != b.ValueDim || a.Mask != b.Mask {
		return fmt.Errorf("state of batch %d, heads %d/%d, dims %d/%d, levels %d, mask %v: the call has %d, %d/%d, %d/%d, %d, %v", a.Batch, a.Heads, a.KVHeads,
			a.KeyDim, a.ValueDim, s.width, a.Mask, b.Batch, b.Heads, b.KVHeads, b.KeyDim, b.ValueDim, width, b.Mask)
	}
	if c.Saved != nil || c.Initial != nil || c.Final != nil {
		return errors.New("extend with saved, initial or final: want none of them")
	}
	row := -1
	for i := range c.NumSegments() {
		g := c.Segment(i)
		if g.Row == row {
			return fmt.Errorf("segment %d: row %d twice: want one segment a row", i, row)
		}
		row = g.Row
		if n := s.rows[row].n; g.Offset() < 0 && n > 0 {
			return fmt.Errorf("segment %d: %d queries for %d new keys: a recurrent state cannot look back, want no more queries than keys", i, g.Queries, g.Keys)
		}
	}
	return nil
}

// Extend appends the call's tokens to the state and computes c.Out, for a call that has passed Check.
func (r *Levels) Extend(ws *attn.Workspace, state attn.State, c *attn.Call) error {
	s, ok := state.(*LevelState)
	if !ok {
		return fmt.Errorf("state of type %T: want one that NewState made", state)
	}
	if err := s.admits(r.Width, c); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	c.ZeroPadding()
	for i := range c.NumSegments() {
		g := c.Segment(i)
		zeroQueries(c, g)
		s.grow(g.Row, s.rows[g.Row].n+g.Keys)
	}
	a := levelsArgs{recurArgs: r.args(c), width: r.Width, state: s}
	attn.Parallel(ws, a.heads(), r.extendFloats(c.Shape), a, levelsExtendTask)
	for i := range c.NumSegments() {
		g := c.Segment(i)
		s.rows[g.Row].n += g.Keys
	}
	return nil
}

func (r *Levels) extendFloats(s attn.Shape) int {
	return max(attn.ScratchFloats(s.KeyDim, s.KeyDim), r.blockFloats(s, 0))
}

// levelsExtendTask takes the tokens of one head of one row: by blocks where a whole one lies ahead and more behind it, the others one by one.
func levelsExtendTask(s *attn.Scratch, a *levelsArgs, task int) {
	seg, kv := a.head(task)
	g := a.c.Segment(seg)
	row := &a.state.rows[g.Row]
	t := newLevels(s, &a.recurArgs, a.width, 0)
	n := a.stateLen(a.c.Shape)
	level := func(l int) []float32 { return row.levels[l][kv*n : (kv+1)*n] }
	for j := 0; j < g.Keys; {
		at := row.n + j
		row.merge(at, kv, n)
		if at%lanes != 0 || g.Keys-j <= lanes {
			t.step(row, g, kv, j, at, level(0))
			j++
			continue
		}
		b := at / lanes
		for e := uint(b); e != 0; e &= e - 1 {
			z := bits.TrailingZeros(e)
			t.ranges[z], t.sums[z] = level(z+pairLevels), row.sums[z+pairLevels][kv]
		}
		t.at(g, kv, j, lanes)
		t.expect(g, kv, g.Keys, 0)
		t.block(b)
		t.end(b)
		for e := uint(b); e != 0; e &= e - 1 {
			z := bits.TrailingZeros(e)
			row.sums[z+pairLevels][kv] = t.sums[z]
		}
		for l := range pairLevels { // the next token merges them
			clear(level(l))
			row.sums[l][kv] = 0
		}
		copy(level(0), t.m)
		j += lanes
	}
}

// merge makes one level of those that hold the tokens before token at and are to be one for it: l+1 for the lowest bit l of at.
func (r *levelRow) merge(at, kv, n int) {
	if at == 0 {
		return
	}
	last := bits.TrailingZeros(uint(at)) // levels 0 to last
	dst := r.levels[last+1][kv*n : (kv+1)*n]
	copy(dst, r.levels[0][kv*n:])
	kernel.Scale(float32(math.Exp(r.sums[0][kv])), dst)
	for l := 1; l <= last; l++ {
		kernel.Axpy(float32(math.Exp(r.sums[l][kv])), r.levels[l][kv*n:(kv+1)*n], dst)
	}
	kernel.FlushBelow(recurTiny, dst)
	r.sums[last+1][kv] = 0
}

// step takes token j of a segment, at position at, whose own level is state.
func (t *levelsBlock) step(row *levelRow, g attn.Segment, kv, j, at int, state []float32) {
	c, dk, dv := t.c, t.c.KeyDim, t.c.ValueDim
	decay := float64(c.Extra[0].Row(g.Row, g.Key0+j, kv)[0])
	for e := uint(at); e != 0; e &= e - 1 {
		row.sums[1+bits.TrailingZeros(e)][kv] += decay
	}
	k := t.scaled[:dk]
	copy(k, c.K.Row(g.Row, g.Key0+j, kv*c.K.Heads/c.KVHeads))
	kernel.Scale(c.Extra[1].Row(g.Row, g.Key0+j, kv)[0], k)
	v := c.V.Row(g.Row, g.Key0+j, kv)
	kernel.Mul(dk, dv, 1, kernel.Rows(k, 1), kernel.Rows(v, dv), kernel.Rows(state, dv))
	row.sums[0][kv] = 0
	q := j - g.Offset()
	if q < 0 {
		return
	}
	for i := range c.Heads / c.KVHeads {
		h := kv*(c.Heads/c.KVHeads) + i
		out, lambda := c.Out.Row(g.Row, g.Query0+q, h), c.Extra[2].Row(g.Row, g.Query0+q, h)
		query := c.Q.Row(g.Row, g.Query0+q, h*c.Q.Heads/c.Heads)
		clear(out)
		kernel.Axpy(lambda[0]*kernel.Dot(query, k), v, out)
		for e := uint(at); e != 0; e &= e - 1 {
			l := 1 + bits.TrailingZeros(e)
			x := t.scaled[dk:][:dk]
			copy(x, query)
			kernel.Scale(lambda[min(l, t.most-1)]*float32(math.Exp(row.sums[l][kv])), x)
			kernel.Combine(out, x, kernel.Rows(row.levels[l][kv*dk*dv:(kv+1)*dk*dv], dv))
		}
		t.addOwn(t.own, g, kv, h, q, 0, dv)
	}
}
