package attntest

import (
	"fmt"
	"math/rand/v2"

	"attnbench/attn"
)

// gather returns a call that brings counts[b] tokens of row b from starts[b] on, with garbage
// behind them, and a function that brings its outputs home to c.
func (k *kit) gather(c *attn.Call, starts, counts []int) (*attn.Call, func()) {
	most := 0
	for _, n := range counts {
		most = max(most, n)
	}
	d := k.slice(c, -1, 0, most, 0, most)
	move := func(v attn.View) attn.View {
		if v.Empty() {
			return v
		}
		w := newView(gaps, v.Batch, most, v.Heads, v.Dim)
		eachRow(w, func(b, t, h int, row []float32) {
			for i := range row {
				if row[i] = 1e9; b%2 == 1 {
					row[i] = nan
				}
			}
			if t < counts[b] {
				copy(row, v.Row(b, starts[b]+t, h))
			}
		})
		return w
	}
	for i := range k.info.Inputs {
		k.put(d, i, move(k.input(c, i)))
	}
	d.Out = newView(gaps, c.Batch, most, c.Heads, c.ValueDim)
	d.Segments = []attn.Segment{}
	for b, n := range counts {
		if n > 0 { // a row without a segment brings none; positions come from the state
			d.Segments = append(d.Segments, attn.Segment{Row: b, Queries: n, Keys: n, Pos0: 77 * b})
		}
	}
	return d, func() {
		eachRow(d.Out, func(b, t, h int, row []float32) {
			if t < counts[b] {
				copy(c.Out.Row(b, starts[b]+t, h), row)
				return
			}
			for _, x := range row {
				if x != 0 {
					k.failf("extend left %g in the output of row %d, which brings %d tokens, at time %d: want 0", x, b, counts[b], t)
				}
			}
		})
	}
}

// advance feeds counts[b] tokens of c to row b of a state.
func (k *kit) advance(inc attn.Incremental, s attn.State, c *attn.Call, at, counts []int) bool {
	d, home := k.gather(c, at, counts)
	k.poison()
	if err := inc.Extend(k.ws, s, d); err != nil {
		k.failf("extend of rows at %v by %v tokens: %v", at, counts, err)
		return false
	}
	home()
	for b, n := range counts {
		at[b] += n
		if s.Len(b) != at[b] {
			k.failf("length of row %d after %d tokens: got %d", b, at[b], s.Len(b))
			return false
		}
	}
	return true
}

// ragged decodes rows of unlike lengths at unlike speeds; row 1 is reset on the way and starts again.
func (k *kit) ragged(inc attn.Incremental) {
	p, ok := k.decodePlan(0, 3, 37)
	if !ok {
		return
	}
	c := k.drawClear(p)
	w, ok := k.want(c)
	if !ok {
		return
	}
	p.what = "ragged batch"
	s, ok := k.newSession(inc, c)
	if !ok {
		return
	}
	r, at := p.rand(6), make([]int, c.Batch)
	for turn := 0; ; turn++ {
		counts, any := make([]int, c.Batch), false
		for b := range counts {
			end := c.KeyLen - 5*b // rows end at unlike lengths
			counts[b] = min(r.IntN(5), end-at[b])
			any = any || at[b] < end
		}
		if !any || k.full() {
			break
		}
		if turn == 4 && c.Batch > 1 {
			p.what = "ragged batch after a reset of row 1"
			s.state.Reset(1)
			at[1] = 0
			if n := s.state.Len(1); n != 0 {
				k.failf("length of row 1 after reset: got %d", n)
				return
			}
			eachRow(row(c.Out, 1), func(_, _, _ int, x []float32) {
				for i := range x {
					x[i] = nan
				}
			})
		}
		if !k.advance(inc, s.state, c, at, counts) {
			return
		}
	}
	if k.info.Decode != attn.DecodeAlways {
		return
	}
	for b := range c.Batch {
		got := times(row(c.Out, b), 0, c.KeyLen-5*b)
		want := w.Out
		want.Batch, want.Time, want.Data = 1, got.Time, want.Data[b*want.BatchStride:]
		if e := off(got, want, k.tolerance()); e != "" {
			k.failf("row %d against the definition: %s", b, e)
		}
	}
}

// afterNaN feeds NaN to row 1, which must not reach row 0, and resets it: nothing of it may stay.
func (k *kit) afterNaN(inc attn.Incremental) {
	p, ok := k.decodePlan(2, 2, 33)
	if !ok || p.Batch != 2 {
		return
	}
	p.what = "NaN in row 1, then a reset of it"
	c := k.drawClear(p)
	w, ok := k.want(c)
	if !ok {
		return
	}
	bad := clone(c)
	for i := range k.info.Inputs {
		if v := k.input(bad, i); !v.Empty() {
			fillView(row(v, 1), nan)
		}
	}
	s, ok := k.newSession(inc, c)
	if !ok || !k.advance(inc, s.state, bad, []int{0, 0}, []int{20, 20}) {
		return
	}
	if k.info.Decode == attn.DecodeAlways {
		copyView(times(c.Out, 0, 20), times(bad.Out, 0, 20))
	}
	s.state.Reset(1)
	at := []int{20, 0}
	for _, n := range [][]int{{0, 9}, {1, 1}, {5, 16}, {7, 7}} {
		if !k.advance(inc, s.state, c, at, n) {
			return
		}
	}
	if k.info.Decode != attn.DecodeAlways {
		return
	}
	if e := off(c.Out, w.Out, k.tolerance()); e != "" {
		k.failf("decoding against the definition of the whole: %s", e)
	}
	for b := range c.Batch {
		s.state.Reset(b)
	}
	if k.info.Cost != nil {
		sh := c.Shape
		sh.QueryLen, sh.KeyLen = 0, 0
		if got, want := s.state.Bytes(), k.info.Cost(sh, attn.PassDecode).State; got != want {
			k.failf("state holds %d bytes after a reset of all rows: Cost says %d for no tokens", got, want)
		}
	}
}

// rowsOfState reorders rows and compares what follows with rows that were fed so, to the bit.
func (k *kit) rowsOfState(inc attn.Incremental) {
	p, ok := k.decodePlan(1, 3, 23)
	if !ok || p.Batch != 3 {
		return
	}
	for _, from := range [][]int{{2, 0, 0}, {1, 2, 0}, {0, 1, 2}, {1, 1, 1}} {
		p.what = fmt.Sprintf("reorder %v", from)
		head := k.draw(p)
		straight := clone(head) // row b is row from[b] up to the cut, and then itself
		const cut = 13
		for i := range k.info.Inputs {
			v := k.input(head, i)
			eachRow(k.input(straight, i), func(b, t, h int, row []float32) {
				if t < cut {
					copy(row, v.Row(from[b], t, h))
				}
			})
		}
		a, ok := k.newSession(inc, head)
		b, ok2 := k.newSession(inc, straight)
		if !ok || !ok2 {
			return
		}
		for _, s := range []*session{a, b} {
			if !s.feed(9, 9) || !s.feed(4, 4) {
				return
			}
		}
		if err := a.state.Reorder(from); err != nil {
			k.failf("reorder: %v", err)
			return
		}
		for _, s := range []*session{a, b} {
			if !s.feed(1, 1) || !s.feed(4, 4) || !s.feed(1, 1) {
				return
			}
		}
		if e := sameBits(times(a.c.Out, cut, 19), times(b.c.Out, cut, 19), nil); e != "" {
			k.failf("after the reorder and without it differ at %s", e)
			return
		}
	}
	// Rows of unlike lengths keep them.
	c := k.draw(p)
	s, ok := k.newSession(inc, c)
	if !ok || !k.advance(inc, s.state, c, make([]int, 3), []int{3, 0, 7}) {
		return
	}
	if err := s.state.Reorder([]int{2, 0, 1}); err != nil {
		k.failf("reorder of rows with unlike lengths: %v", err)
		return
	}
	for b, want := range []int{7, 3, 0} {
		if got := s.state.Len(b); got != want {
			k.failf("length of row %d after reorder: got %d, want %d", b, got, want)
		}
	}
	k.advance(inc, s.state, c, []int{7, 3, 0}, []int{2, 1, 5})
}

// serialised writes a state, reads it back and goes on with both; cut or changed data is an
// error that leaves the state as it was.
func (k *kit) serialised(inc attn.Incremental) {
	p, ok := k.decodePlan(2, 2, 29)
	if !ok {
		return
	}
	p.what = "marshal"
	c := k.draw(p)
	a, ok := k.newSession(inc, c)
	b, ok2 := k.newSession(inc, clone(c))
	if !ok || !ok2 || !a.feed(11, 11) || !a.feed(1, 1) {
		return
	}
	data, err := a.state.MarshalBinary()
	if err != nil {
		k.failf("marshal: %v", err)
		return
	}
	if !b.feed(2, 2) { // what the state held before must go
		return
	}
	k.corrupt(b, data)
	if err := b.state.UnmarshalBinary(data); err != nil {
		k.failf("unmarshal of what marshal wrote: %v", err)
		return
	}
	b.at = a.at
	again, err := b.state.MarshalBinary()
	if err != nil || string(again) != string(data) {
		k.failf("marshal, unmarshal and marshal give other bytes (error %v)", err)
	}
	if x, y := a.state.Bytes(), b.state.Bytes(); x != y {
		k.failf("state holds %d bytes, and %d after unmarshal", x, y)
	}
	for _, s := range []*session{a, b} {
		if !s.feed(1, 1) || !s.feed(5, 5) || !s.feed(1, 1) {
			return
		}
	}
	if e := sameBits(times(a.c.Out, 12, 19), times(b.c.Out, 12, 19), nil); e != "" {
		k.failf("a state and its copy through bytes differ at %s", e)
	}
}

func (k *kit) corrupt(s *session, data []byte) {
	good, err := s.state.MarshalBinary()
	if err != nil {
		k.failf("marshal: %v", err)
		return
	}
	refuse := func(what string, bad []byte, must bool) {
		err := s.state.UnmarshalBinary(bad)
		if err == nil && must {
			k.failf("unmarshal of %s: want an error", what)
		}
		if err != nil {
			now, e := s.state.MarshalBinary()
			if e != nil || string(now) != string(good) {
				k.failf("unmarshal of %s: the error changed the state (%v)", what, e)
			}
		}
		if err := s.state.UnmarshalBinary(good); err != nil {
			k.failf("unmarshal of what marshal wrote, after %s: %v", what, err)
		}
	}
	for _, n := range []int{0, 1, len(data) / 2, len(data) - 1} {
		if n >= 0 && n < len(data) {
			refuse(fmt.Sprintf("the first %d of %d bytes", n, len(data)), data[:n], true)
		}
	}
	refuse("data with a byte more", append(append([]byte(nil), data...), 0), true)
	other := s.c.Shape
	other.Batch++
	if o, err := s.inc.NewState(other); err == nil {
		if bytes, err := o.MarshalBinary(); err == nil {
			refuse("a state of another batch size", bytes, true)
		}
	}
	r := rand.New(rand.NewPCG(k.Seed, 99))
	for range min(20, len(data)) { // no checksum is asked for: only no panic, and no half-read state
		bad := append([]byte(nil), data...)
		bad[r.IntN(min(len(bad), 64))] ^= 1 << r.IntN(8)
		refuse("data with a flipped bit", bad, false)
	}
}
