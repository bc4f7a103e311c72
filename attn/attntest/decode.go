package attntest

import (
	"fmt"
	"math/rand/v2"

	"attnbench/attn"
)

func checkDecode(k *kit) {
	inc, ok := k.m.(attn.Incremental)
	if !ok {
		return
	}
	for _, m := range k.masks() {
		switch m {
		case attn.Causal:
			k.decodeCausal(inc)
		case attn.Bidirectional, attn.Cross:
			k.decodeAtOnce(inc, m)
		}
	}
	if k.causal() {
		k.ragged(inc)
		k.afterNaN(inc)
		k.rowsOfState(inc)
		k.serialised(inc)
	}
}

// session is one decoding state and what was fed to it.
type session struct {
	k     *kit
	inc   attn.Incremental
	state attn.State
	c     *attn.Call // all tokens
	at    int        // tokens fed
}

// newSession opens a state for the tokens of c.
func (k *kit) newSession(inc attn.Incremental, c *attn.Call) (*session, bool) {
	s, err := inc.NewState(c.Shape)
	if err != nil {
		k.failf("new state for a good shape: %v", err)
		return nil, false
	}
	if s == nil {
		k.failf("new state for a good shape: nil without an error")
		return nil, false
	}
	return &session{k: k, inc: inc, state: s, c: c}, true
}

// feed extends the state by the next n tokens, of which the last q ask.
func (s *session) feed(n, q int) bool {
	k := s.k
	d := k.slice(s.c, -1, s.at+n-q, s.at+n, s.at, s.at+n)
	d.EndOfPrompt = true
	k.poison()
	if err := s.inc.Extend(k.ws, s.state, d); err != nil {
		k.failf("extend of %d tokens by %d, %d of them asking: %v", s.at, n, q, err)
		return false
	}
	s.at += n
	for b := range s.c.Batch {
		if got := s.state.Len(b); got != s.at {
			k.failf("length of row %d after %d tokens: got %d", b, s.at, got)
			return false
		}
	}
	return true
}

// decodePlan is a causal call to be decoded.
func (k *kit) decodePlan(i, batch, n int) (*plan, bool) {
	s := []attn.Shape{
		shape(attn.Causal, batch, n, n, 4, 2, 8, 5),
		shape(attn.Causal, batch, n, n, 6, 2, 5, 12),
		shape(attn.Causal, batch, n, n, 2, 1, 16, 8),
	}[i%3]
	s.MaxLen = n
	p := &plan{Shape: s, layout: layout(i % 3), present: k.every() &^ uint(i), grid: k.info.Selects && i%2 == 1}
	return p, k.begin(p)
}

// splits of n tokens into pieces.
func splits(n int, short bool) (names []string, all [][]int) {
	add := func(name string, pieces ...int) {
		sum := 0
		for i, p := range pieces {
			pieces[i] = min(p, n-sum)
			sum += pieces[i]
		}
		for ; sum < n; sum++ { // the rest one by one
			pieces = append(pieces, 1)
		}
		names, all = append(names, name), append(all, pieces)
	}
	add("one by one")
	add("pieces of 1, 2, 3, 5, 8, 13, 21, 44", 1, 2, 3, 5, 8, 13, 21, 44)
	add("a prompt of all but 3", n-3)
	if short {
		return names, all
	}
	for _, p := range []int{6, 7, 8, 9, 20, 33} {
		add(fmt.Sprintf("a prompt of %d", p), p, 1, 1, 7, 1, n)
	}
	add("pieces of 2", repeat(2, n/2)...)
	add("pieces of 7", repeat(7, n/7)...)
	add("a prompt of 64", 64)
	return names, all
}

func repeat(x, n int) []int {
	s := make([]int, n)
	for i := range s {
		s[i] = x
	}
	return s
}

func (k *kit) decodeCausal(inc attn.Incremental) {
	n := 71
	if k.Short {
		n = 41
	}
	for i := range 3 {
		p, ok := k.decodePlan(i, 2, n)
		if !ok {
			continue
		}
		c := k.drawClear(p)
		w, ok := k.want(c)
		if !ok {
			return
		}
		names, all := splits(p.KeyLen, k.Short || i == 2)
		for j, pieces := range all {
			p.what = names[j]
			if k.info.Decode != attn.DecodeAlways {
				pieces = []int{p.KeyLen} // the prompt whole is what Forward computes
			}
			if k.full() || !k.decodeSplit(inc, clone(c), w, pieces) {
				return
			}
			if k.info.Decode != attn.DecodeAlways {
				break
			}
		}
		if k.info.Decode == attn.DecodeAlways {
			k.askSome(inc, clone(c), w)
		}
	}
	if k.Short || k.info.Decode != attn.DecodeAlways {
		return
	}
	s := shape(attn.Causal, 1, 301, 301, 2, 1, 4, 3)
	s.MaxLen = s.KeyLen
	p := &plan{Shape: s, layout: gaps, present: k.every(), what: "a prompt of 254"}
	if k.begin(p) && p.KeyLen == 301 {
		c := k.drawClear(p)
		if w, ok := k.want(c); ok {
			k.decodeSplit(inc, c, w, append([]int{254}, repeat(1, 47)...))
		}
	}
}

func (k *kit) decodeSplit(inc attn.Incremental, c *attn.Call, w *attn.Call64, pieces []int) bool {
	s, ok := k.newSession(inc, c)
	if !ok {
		return false
	}
	s.accounts()
	for _, n := range pieces {
		if !s.feed(n, n) {
			return false
		}
		s.accounts()
	}
	if k.info.Decode == attn.DecodeNever {
		return true
	}
	if e := off(c.Out, w.Out, tolerance); e != "" {
		k.failf("decoding against the definition of the whole: %s", e)
	}
	return true
}

// accounts holds the state's bytes against the declared cost.
func (s *session) accounts() {
	k, sh := s.k, s.c.Shape
	if k.info.Cost == nil {
		return
	}
	sh.QueryLen, sh.KeyLen = min(1, s.at), s.at
	cost := k.info.Cost(sh, attn.PassDecode)
	if got := s.state.Bytes(); got != cost.State {
		k.failf("state of %d tokens holds %d bytes: Cost says %d", s.at, got, cost.State)
	}
	if got := s.state.ReadBytes(); got != cost.Read {
		k.failf("state of %d tokens says that the next reads %d bytes: Cost says %d", s.at, got, cost.Read)
	}
}

// askSome appends tokens that do not ask, or of which only the last ones do.
func (k *kit) askSome(inc attn.Incremental, c *attn.Call, w *attn.Call64) {
	k.plan.what = "prompt without queries, then pieces of which the last ones ask"
	s, ok := k.newSession(inc, c)
	if !ok {
		return
	}
	asked := make([]bool, c.QueryLen)
	for _, n := range [][2]int{{9, 0}, {1, 1}, {5, 2}, {1, 1}, {11, 4}, {3, 0}, {1, 1}} {
		if s.at+n[0] > c.KeyLen {
			break
		}
		for i := range n[1] {
			asked[s.at+n[0]-1-i] = true
		}
		if !s.feed(n[0], n[1]) {
			return
		}
	}
	got := cloneView(c.Out)
	eachRow(got, func(b, t, h int, row []float32) {
		if asked[t] {
			return
		}
		for i, x := range row {
			if x == x {
				k.failf("extend wrote output %d of token %d, which did not ask", i, t)
			}
			row[i] = float32(w.Out.Row(b, t, h)[i])
		}
	})
	if e := off(got, w.Out, tolerance); e != "" {
		k.failf("decoding against the definition of the whole: %s", e)
	}
}

// decodeAtOnce extends an empty state by a whole call without the causal mask; under Cross the
// keys may come before the queries, and those in any number.
func (k *kit) decodeAtOnce(inc attn.Incremental, m attn.Mask) {
	for i, cut := range [][]int{{19}, {0, 19}, {0, 1, 1, 5, 12}} {
		s := shape(m, 2, 19, 23, 4, 2, 8, 5)
		s.MaxLen = s.KeyLen
		p := &plan{Shape: s, present: k.every(), layout: layout(i), what: fmt.Sprintf("queries %v", cut)}
		if m == attn.Bidirectional && i > 0 || !k.begin(p) || p.QueryLen != 19 {
			continue
		}
		c := k.drawClear(p)
		state, err := inc.NewState(c.Shape)
		if err != nil {
			return // decoding under this mask is not offered
		}
		w, ok := k.want(c)
		if !ok {
			return
		}
		at := 0
		for j, n := range cut {
			keys := 0
			if j == 0 {
				keys = c.KeyLen
			}
			k.poison()
			if err := inc.Extend(k.ws, state, k.slice(c, -1, at, at+n, 0, keys)); err != nil {
				k.failf("extend by %d keys and %d queries: %v", keys, n, err)
				return
			}
			at += n
		}
		if k.info.Decode == attn.DecodeNever {
			continue
		}
		if e := off(c.Out, w.Out, tolerance); e != "" {
			k.failf("decoding against the definition of the whole: %s", e)
		}
	}
}

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
		if e := off(got, want, tolerance); e != "" {
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
	if e := off(c.Out, w.Out, tolerance); e != "" {
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
