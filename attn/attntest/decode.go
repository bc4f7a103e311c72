package attntest

import (
	"fmt"

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
	k.longPrompt(inc)
}

// longPrompt asks the last two tokens after many that did not ask: few queries are cheap to
// define, and many keys may be split among workers.
func (k *kit) longPrompt(inc attn.Incremental) {
	s := shape(attn.Causal, 2, 4611, 4611, 4, 2, 4, 3)
	s.MaxLen = s.KeyLen
	p := &plan{Shape: s, layout: headMajor, present: k.every(), what: "a prompt of 4609 without queries"}
	if !k.begin(p) || p.KeyLen != 4611 {
		return
	}
	all := k.draw(p)
	last := clone(k.slice(all, -1, 4609, 4611, 0, 4611))
	if k.info.CheckShape != nil && k.info.CheckShape(last.Shape) != nil || k.info.Selects && !k.smooth(last, p) {
		return
	}
	w, ok := k.want(last)
	session, ok2 := k.newSession(inc, all)
	if !ok || !ok2 || !session.feed(4609, 0) || !session.feed(1, 1) || !session.feed(1, 1) {
		return
	}
	if e := off(times(all.Out, 4609, 4611), w.Out, k.tolerance()); e != "" {
		k.failf("decoding against the definition of the last two queries: %s", e)
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
	if e := off(c.Out, w.Out, k.tolerance()); e != "" {
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
	if e := off(got, w.Out, k.tolerance()); e != "" {
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
		if e := off(c.Out, w.Out, k.tolerance()); e != "" {
			k.failf("decoding against the definition of the whole: %s", e)
		}
	}
}
