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
	s, err := checked(info, state, c)
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
			s.append(ws, c)
			a.extend(ws, c, s, s.cached())
		case inCall:
			a.extend(ws, c, s, [2]attn.View{c.K, c.V})
			s.append(ws, c)
		case gathered:
			a.extend(ws, c, s, s.gather(ws, c))
			s.append(ws, c)
		}
		ws.Release(mark)
	}
}

// checked returns the cache that state is, once it and the call are known to fit.
func checked(info *attn.Info, state attn.State, c *attn.Call) (*Cache, error) {
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
	s, err := checked(info, state, c)
	if err != nil {
		return attn.Call{}, err
	}
	c.ZeroPadding()
	s.choose(c, inCache)
	if len(s.own) != c.NumSegments() {
		return attn.Call{}, fmt.Errorf("%s: state has a window: want one that keeps all tokens", info.Name)
	}
	s.append(ws, c)
	call := *c
	call.Segments, call.KeyLen = s.seen, 0
	call.K, call.V = s.views()
	for _, g := range s.seen {
		call.KeyLen = max(call.KeyLen, g.Keys)
	}
	return call, nil
}

// extend computes the queries of s.seen over the keys and values kv.
func (a Softmax) extend(ws *attn.Workspace, c *attn.Call, s *Cache, kv [2]attn.View) {
	call := *c
	call.Saved, call.Segments, call.K, call.V = nil, s.seen, kv[0], kv[1]
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

func (s *Cache) cached() [2]attn.View {
	k, v := s.views()
	return [2]attn.View{k, v}
}

// Held returns how many tokens of a row a Cache holds, and the keys and values of its slots.
func (s *Cache) Held(row int) (n int, k, v attn.View) {
	k, v = s.views()
	return s.softmax.held(s.length[row]), k, v
}

// serial is the number of floats that are copied by one worker without asking for others.
const serial = 1 << 16

type appendArgs struct {
	cache *Cache
	call  attn.Call
}

// append takes the keys and values of s.own into the cache.
func (s *Cache) append(ws *attn.Workspace, c *attn.Call) {
	most, floats := 0, 0
	for _, g := range s.own {
		most = max(most, s.softmax.held(s.length[g.Row]+g.Keys))
		floats += g.Keys * s.shape.KVHeads * (s.shape.KeyDim + s.shape.ValueDim)
	}
	s.grow(most)
	args := appendArgs{s, *c}
	tasks := len(s.own) * s.shape.KVHeads
	if floats < serial {
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

// run appends one key/value head of a segment.
func (a *appendArgs) run(task int) {
	s := a.cache
	g, h := s.own[task/s.shape.KVHeads], task%s.shape.KVHeads
	k, v := s.views()
	n := s.length[g.Row]
	for t := range g.Keys {
		if s.softmax.Window > 0 && n+t >= s.softmax.Sinks && t < g.Keys-s.softmax.Window {
			continue // out of the window before anyone can ask
		}
		slot := s.softmax.slot(n + t)
		copy(k.Row(g.Row, slot, h), a.call.K.Row(g.Row, g.Key0+t, h))
		copy(v.Row(g.Row, slot, h), a.call.V.Row(g.Row, g.Key0+t, h))
	}
	s.summarise(g.Row, h, n, n+g.Keys)
}

// gather copies the tokens held and those of the call to scratch, in order.
func (s *Cache) gather(ws *attn.Workspace, c *attn.Call) [2]attn.View {
	time := 0
	for _, g := range s.seen {
		time = max(time, g.Keys)
	}
	b, h := s.shape.Batch, s.shape.KVHeads
	k := headMajor(ws.Floats(b*h*time*s.shape.KeyDim), b, time, h, s.shape.KeyDim)
	v := headMajor(ws.Floats(b*h*time*s.shape.ValueDim), b, time, h, s.shape.ValueDim)
	ck, cv := s.views()
	for i, g := range s.own {
		n := s.length[g.Row]
		held := s.seen[i].Keys - g.Keys
		for h := range h {
			for j := range held {
				slot := s.heldSlot(n, j)
				copy(k.Row(g.Row, j, h), ck.Row(g.Row, slot, h))
				copy(v.Row(g.Row, j, h), cv.Row(g.Row, slot, h))
			}
			for t := range g.Keys {
				copy(k.Row(g.Row, held+t, h), c.K.Row(g.Row, g.Key0+t, h))
				copy(v.Row(g.Row, held+t, h), c.V.Row(g.Row, g.Key0+t, h))
			}
		}
	}
	return [2]attn.View{k, v}
}

// heldSlot returns where the j-th of the tokens held lies in a row that has seen n.
func (s *Cache) heldSlot(n, j int) int {
	if j >= s.softmax.Sinks {
		j += n - s.softmax.held(n)
	}
	return s.softmax.slot(j)
}
