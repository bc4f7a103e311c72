package tile

import (
	"fmt"

	"attnbench/attn"
)

// Where the keys that a segment's queries see lie together, in order, when a state is extended. Extend takes the
// places in this order: a segment of the first two must not look like one of a later place once its tokens are in.
const (
	gathered = iota // partly in a full ring, partly in the call: they are copied to scratch
	inCall          // in the call: the first tokens of a sequence, more than the ring holds
	inCache         // in the cache, once the new ones are appended; also a ring that brings one token
	places
)

// Extend appends the keys and values of c to the state and computes c.Out for its queries, for
// the mechanism that info describes.
func (a Softmax) Extend(ws *attn.Workspace, info *attn.Info, state attn.State, c *attn.Call) error {
	s, err := Checked(info, state, c)
	if err != nil {
		return err
	}
	c.ZeroPadding()
	a.extendAll(ws, s, c)
	return nil
}

// ExtendOver is Extend of a state that a mechanism keeps beside others: the call, which it has checked, may be of a part of the tokens,
// and the rest of c.Out stays as it is.
func (a Softmax) ExtendOver(ws *attn.Workspace, name string, state attn.State, c *attn.Call) error {
	s, ok := state.(*Cache)
	if !ok || s == nil {
		return fmt.Errorf("%s: state is a %T: want one of its own", name, state)
	}
	if err := s.Accepts(name, c); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	a.extendAll(ws, s, c)
	return nil
}

func (a Softmax) extendAll(ws *attn.Workspace, s *Cache, c *attn.Call) {
	for place := range places {
		s.choose(c, place)
		if len(s.own) == 0 {
			continue
		}
		mark := ws.Mark()
		switch place {
		case inCache:
			s.append(ws, a.inputs(c))
			a.extend(ws, c, s, s.views())
		case inCall:
			a.extend(ws, c, s, a.inputs(c))
			s.append(ws, a.inputs(c))
		case gathered:
			a.extend(ws, c, s, s.gather(ws, a.inputs(c)))
			s.append(ws, a.inputs(c))
		}
		ws.Release(mark)
	}
}

// Checked returns the cache that state is, once it and the call are known to fit.
func Checked(info *attn.Info, state attn.State, c *attn.Call) (*Cache, error) {
	if err := c.Check(info); err != nil {
		return nil, err
	}
	s, ok := state.(*Cache)
	if !ok || s == nil {
		return nil, fmt.Errorf("%s: state is a %T: want one of its own", info.Name, state)
	}
	if err := s.Accepts(info.Name, c); err != nil {
		return nil, fmt.Errorf("%s: %w", info.Name, err)
	}
	return s, nil
}

// Append appends the keys and values of c to a state without window and returns the call that the queries of c make over all tokens held, for
// mechanisms that compute it in their own way. The call is good until the next Append.
func Append(ws *attn.Workspace, info *attn.Info, state attn.State, c *attn.Call) (attn.Call, error) {
	s, err := Checked(info, state, c)
	if err != nil {
		return attn.Call{}, err
	}
	c.ZeroPadding()
	call := s.Append(ws, c, c.K, c.V)
	call.K, call.V = s.View(0), s.View(1)
	return call, nil
}

// Append takes what the cache keeps of the tokens of c, in the order in which it keeps its inputs, and returns the call that the
// queries of c make over all tokens held, its keys and values still those of c. It is good until the next Append.
func (s *Cache) Append(ws *attn.Workspace, c *attn.Call, kept ...attn.View) attn.Call {
	s.choose(c, inCache)
	var in inputs
	copy(in[:], kept)
	s.append(ws, in)
	call := *c
	call.Segments, call.KeyLen = s.seen, 0
	for _, g := range s.seen {
		call.KeyLen = max(call.KeyLen, g.Keys)
	}
	return call
}

// View returns the i-th input kept, [batch, token, heads, dim].
func (s *Cache) View(i int) attn.View { return s.views()[i] }

// Attend computes the queries of a call that Append returned, the values of its keys and values being the cache's; c.Segments is set.
func (a Softmax) Attend(ws *attn.Workspace, c *attn.Call) {
	a.decode(ws, c, nil)
	a.forward(ws, c, nil, few)
}

// extend computes the queries of s.seen over the keys and values in.
func (a Softmax) extend(ws *attn.Workspace, c *attn.Call, s *Cache, in inputs) {
	call := *c
	a.inPairs = s.pairs
	call.Saved, call.Segments, call.K, call.V = nil, s.seen, in[0], in[1]
	if a.Forget {
		s.extra[0] = in[2]
		call.Extra, call.KeyLen = s.extra[:], 0
		for _, g := range s.seen {
			call.KeyLen = max(call.KeyLen, g.Keys)
		}
	}
	a.decode(ws, &call, s)
	a.forward(ws, &call, nil, few)
}

func (s *Cache) place(g attn.Segment) int {
	limit, n := s.softmax.limit(), s.length[g.Row]
	switch {
	case limit == 0 || n+g.Keys <= limit || g.Keys <= 1 && g.Queries <= 1:
		return inCache
	case n == 0:
		return inCall
	}
	return gathered
}

// choose sets s.own to the segments of c at a place, and s.seen to what their queries see there.
func (s *Cache) choose(c *attn.Call, place int) {
	s.own, s.seen = s.own[:0], s.seen[:0]
	for i := range c.NumSegments() {
		g := c.Segment(i)
		if s.place(g) != place {
			continue
		}
		s.own = append(s.own, g)
		n := s.length[g.Row]
		switch place {
		case inCache:
			g.Key0, g.Keys = 0, s.softmax.held(n+g.Keys)
		case gathered:
			g.Key0, g.Keys = 0, s.softmax.held(n)+g.Keys
		}
		s.seen = append(s.seen, g)
	}
}

// Held returns how many tokens of a row a Cache holds.
func (s *Cache) Held(row int) int { return s.softmax.held(s.length[row]) }

// serial is the number of floats that are copied by one worker without asking for others.
const serial = 1 << 16

type appendArgs struct {
	cache *Cache
	in    inputs
}

// append takes what is kept of the tokens of s.own into the cache.
func (s *Cache) append(ws *attn.Workspace, in inputs) {
	most, tokens := 0, 0
	for _, g := range s.own {
		most = max(most, s.softmax.held(s.length[g.Row]+g.Keys))
		tokens += g.Keys
	}
	s.grow(most)
	args := appendArgs{s, in}
	heads := 0
	for _, x := range s.kept {
		heads = max(heads, x.Heads)
	}
	tasks := len(s.own) * heads
	if tokens*int(s.tokenBytes()) < 4*serial {
		for task := range tasks {
			args.run(task)
		}
	} else {
		attn.Parallel(ws, tasks, 0, args, func(_ *attn.Scratch, a *appendArgs, task int) { a.run(task) })
	}
	for _, g := range s.own {
		s.length[g.Row] += g.Keys
	}
}

// run appends head h of each input of a segment that has so many.
func (a *appendArgs) run(task int) {
	s := a.cache
	g, h := s.own[task%len(s.own)], task/len(s.own)
	kept, n := s.views(), s.length[g.Row]
	for t := range g.Keys {
		if s.softmax.Window > 0 && n+t >= s.softmax.Sinks && t < g.Keys-s.softmax.Window {
			continue // out of the window before anyone can ask
		}
		slot := s.softmax.slot(n + t)
		for i := range s.kept {
			if h >= kept[i].Heads {
				continue
			}
			if to, from := kept[i].Row(g.Row, slot, h), a.in[i].Row(g.Row, g.Key0+t, h); s.pairs {
				roundRow(to, from)
			} else {
				copy(to, from)
			}
		}
	}
	if h < s.shape.KVHeads {
		s.summarise(g.Row, h, n, n+g.Keys)
	}
}

// gather copies the tokens held and those of the call to scratch, in order.
func (s *Cache) gather(ws *attn.Workspace, in inputs) (out inputs) {
	time := 0
	for _, g := range s.seen {
		time = max(time, g.Keys)
	}
	kept := s.views()
	for i, x := range s.kept {
		out[i] = headMajor(ws.Floats(s.shape.Batch*x.Heads*time*x.Dim), s.shape.Batch, time, x.Heads, x.Dim)
	}
	for i, g := range s.own {
		n := s.length[g.Row]
		held := s.seen[i].Keys - g.Keys
		for x := range s.kept {
			for h := range s.kept[x].Heads {
				for j := range held {
					copy(out[x].Row(g.Row, j, h), kept[x].Row(g.Row, s.heldSlot(n, j), h))
				}
				for t := range g.Keys {
					copy(out[x].Row(g.Row, held+t, h), in[x].Row(g.Row, g.Key0+t, h))
				}
			}
		}
	}
	return out
}

// heldSlot returns where the j-th of the tokens held lies in a row that has seen n.
func (s *Cache) heldSlot(n, j int) int {
	if j >= s.softmax.Sinks {
		j += n - s.softmax.held(n)
	}
	return s.softmax.slot(j)
}
