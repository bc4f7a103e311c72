package all

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"attnbench/attn"
	"attnbench/internal/kernel"
)

// drawn returns a call with every declared input. Log decays are far enough from 0 to be decays.
func drawn(info *attn.Info, s attn.Shape) *attn.Call {
	r := rand.New(rand.NewPCG(1, 2))
	c := &attn.Call{Shape: s, Out: attn.NewView[float32](s.Batch, s.QueryLen, s.Heads, s.ValueDim), Saved: attn.NewSaved(new(attn.Arena))}
	if info.RotatesInside {
		c.Rope = &attn.Rope{}
	}
	views := map[string]attn.View{}
	for i := range info.Inputs {
		in := &info.Inputs[i]
		heads, width := in.Size(s)
		time := s.KeyLen
		if in.From == attn.QuerySide {
			time = s.QueryLen
		}
		v, tied := views[in.Tied]
		if !tied {
			v = attn.NewView[float32](s.Batch, time, heads, width)
			for j := range v.Data {
				v.Data[j] = float32(r.NormFloat64())
				switch in.Act {
				case attn.LogSigmoid:
					v.Data[j] = -0.1
				case attn.Sigmoid:
					v.Data[j] = 0.5
				}
			}
		}
		views[in.Name] = v
		switch in.Name {
		case "q":
			c.Q = v
		case "k":
			c.K = v
		case "v":
			c.V = v
		default:
			c.Extra = append(c.Extra, v)
		}
	}
	fill := func(list []attn.Tensor) (data [][]float32) {
		for i := range list {
			x := make([]float32, list[i].Len(s))
			if list[i].Init != nil {
				list[i].Init(s, x, r)
			}
			data = append(data, x)
		}
		return data
	}
	c.Learned, c.Buffers = fill(info.Learned), fill(info.Buffers)
	return c
}

// zeroed returns gradients of 0 for every input of c, and of 1 for its output.
func zeroed(info *attn.Info, c *attn.Call) *attn.Grads {
	like := func(v attn.View) attn.View { return attn.NewView[float32](v.Batch, v.Time, v.Heads, v.Dim) }
	g := &attn.Grads{Out: like(c.Out), Q: like(c.Q), K: like(c.K), V: like(c.V)}
	for i := range g.Out.Data {
		g.Out.Data[i] = 1
	}
	for _, v := range c.Extra {
		g.Extra = append(g.Extra, like(v))
	}
	for _, x := range c.Learned {
		g.Learned = append(g.Learned, make([]float32, len(x)))
	}
	return g
}

// work is what an engine does beside the products that Info declares. Its operations are at least the declared ones and at most
// declared·most; a decoding step goes through what it reads passes times.
type work struct {
	most   func(s attn.Shape, p attn.Pass, pairs float64) float64 // pairs that a head's queries see
	passes func(group int) int64
	apart  bool // each query head has a state of its own, even when heads share keys
	writes bool // the state is written as a whole in a decoding step
	pair   int  // multiply-adds on a score, beside those of its products
	upTo   bool // the query heads of a group choose what they read: what is declared is the most that they read together
	// reads, unless nil, is what the products of a decoding step go through at least, for an engine where it is not what the
	// step reads of the state times passes.
	reads func(s attn.Shape, read int64) int64
}

// TestCounts holds the operations and bytes that Info declares against those that the kernels were asked for, forward, backward and
// in a decoding step.
func TestCounts(t *testing.T) {
	shapes := []attn.Shape{ // full tiles and chunks; neither, with shared keys; more keys than queries
		{Batch: 1, QueryLen: 512, KeyLen: 512, Heads: 2, KVHeads: 2, KeyDim: 64, ValueDim: 64},
		{Batch: 2, QueryLen: 300, KeyLen: 300, Heads: 4, KVHeads: 2, KeyDim: 48, ValueDim: 40},
		{Batch: 1, QueryLen: 100, KeyLen: 260, Heads: 4, KVHeads: 1, KeyDim: 32, ValueDim: 64},
	}
	if testing.Short() {
		shapes = shapes[1:]
	}
	specs := attn.Names()
	for spec := range engines {
		if strings.Contains(spec, ":") && !testing.Short() {
			specs = append(specs, spec)
		}
	}
	for _, spec := range specs {
		t.Run(spec, func(t *testing.T) {
			m, err := attn.New(spec)
			if err != nil {
				t.Fatal(err)
			}
			e, listed := engines[spec]
			if !listed {
				e = unlisted
			}
			refused := func(s attn.Shape) bool { check := m.Info().CheckShape; return check != nil && check(s) != nil }
			for _, s := range shapes {
				if refused(s) {
					s.ValueDim = s.KeyDim
				}
				for _, mask := range []attn.Mask{attn.Causal, attn.Bidirectional} {
					s.Mask = mask
					if refused(s) {
						continue
					}
					if m.Info().Masks&mask != 0 && (mask == attn.Causal || s.QueryLen == s.KeyLen) {
						countPasses(t, m, e, s)
					}
				}
				s.Mask = attn.Causal
				if d, ok := m.(attn.Incremental); ok && m.Info().Masks&attn.Causal != 0 && !refused(s) {
					s.QueryLen = s.KeyLen
					countDecoding(t, d, e, s)
				}
			}
		})
	}
}

// between fails unless got is at least want and at most want·most.
func between(t *testing.T, s attn.Shape, what string, got, want int64, most float64) {
	t.Helper()
	if r := float64(got) / float64(want); !(got >= want && r <= most) {
		t.Errorf("%d queries, %d keys, %d/%d heads, %v, %s: %d counted, %d declared: ratio %.4f, want 1 to %.4f",
			s.QueryLen, s.KeyLen, s.Heads, s.KVHeads, s.Mask, what, got, want, r, most)
	}
}

func countPasses(t *testing.T, m attn.Mechanism, e work, s attn.Shape) {
	t.Helper()
	info := m.Info()
	c, ws := drawn(&info, s), attn.NewWorkspace()
	declared := info.Cost(s, attn.PassForward).FLOPs
	pairs := float64(declared) / float64(2*s.Batch*s.Heads*(s.KeyDim+s.ValueDim))
	var err error
	got := kernel.CountFLOPs(func() { err = m.Forward(ws, c) })
	if err != nil {
		t.Fatal(err)
	}
	score := 1 + float64(e.pair)/float64(s.KeyDim+s.ValueDim)
	between(t, s, "forward", got, declared, e.most(s, attn.PassForward, pairs)*score+small)
	d, ok := m.(attn.Differentiable)
	if !ok {
		return
	}
	g := zeroed(&info, c)
	got = kernel.CountFLOPs(func() { err = d.Backward(ws, c, g) })
	if err != nil {
		t.Fatal(err)
	}
	between(t, s, "backward", got, info.Cost(s, attn.PassBackward).FLOPs, e.most(s, attn.PassBackward, pairs)*score+small)
}

// countDecoding counts one token after a prompt of KeyLen. The step reads what Info says of the state before it, and the
// token's own key and value from the state too.
func countDecoding(t *testing.T, m attn.Incremental, e work, s attn.Shape) {
	t.Helper()
	info := m.Info()
	st, err := m.NewState(s)
	if err != nil {
		t.Fatal(err)
	}
	ws, prompt := attn.NewWorkspace(), drawn(&info, s)
	prompt.Saved, prompt.EndOfPrompt = nil, true
	if err := m.Extend(ws, st, prompt); err != nil {
		t.Fatal(err)
	}
	before := info.Cost(s, attn.PassDecode)
	if before.State != st.Bytes() || before.Read != st.ReadBytes() || before.Read > before.State {
		t.Errorf("%d keys: state of %d bytes, %d read a token: declared %d and %d", s.KeyLen, st.Bytes(), st.ReadBytes(), before.State, before.Read)
	}
	one := s
	one.QueryLen, one.KeyLen = 1, 1
	c := drawn(&info, one)
	c.Saved = nil
	ops, read := kernel.Count(func() { err = m.Extend(ws, st, c) })
	if err != nil {
		t.Fatal(err)
	}
	one.KeyLen = s.KeyLen + 1
	cost := info.Cost(one, attn.PassDecode)
	between(t, one, "decoding", ops, cost.FLOPs, 1+small)
	own := int64(4 * s.Batch * s.KVHeads * (s.KeyDim + s.ValueDim))
	if e.apart {
		own = own / int64(s.KVHeads) * int64(s.Heads)
	}
	passes := e.passes(s.Heads / s.KVHeads)
	least := passes * before.Read
	if e.reads != nil {
		least = e.reads(s, before.Read)
	}
	most := float64(least + passes*own)
	if e.upTo {
		least = before.Read
	}
	between(t, one, "bytes read in decoding", read, least, most/float64(least)+small)
	// What must move: the state once, written again if it changes as a whole, the inputs and the output.
	moved := read / passes
	switch {
	case e.reads != nil:
		moved = cost.Read
	case e.upTo:
		moved = before.Read + own
	}
	io := int64(4 * (len(c.Q.Data) + len(c.K.Data) + len(c.V.Data) + len(c.Out.Data)))
	for _, v := range c.Extra {
		io += int64(4 * len(v.Data))
	}
	if most := moved * 2; e.writes && !(cost.Bytes >= 2*before.Read && cost.Bytes <= most+io) {
		t.Errorf("%d keys: %d bytes declared to move: want %d to %d", one.KeyLen, cost.Bytes, 2*before.Read, most+io)
	}
	if !e.writes && !(cost.Bytes >= before.Read && cost.Bytes <= moved+io) {
		t.Errorf("%d keys: %d bytes declared to move: want %d to %d", one.KeyLen, cost.Bytes, before.Read, moved+io)
	}
}

// TestConstantStates: what decoding reads grows with the context, or does not, as the family says.
func TestConstantStates(t *testing.T) {
	for spec, constant := range map[string]bool{
		"full": false, "naive": false, "sigmoid": false, "sliding:window=64": true, "sliding:window=64,sinks=4": true, "linear": true, "gla": true,
	} {
		m, err := attn.New(spec)
		if err != nil {
			t.Fatal(err)
		}
		info := m.Info()
		var read [2]int64
		for i, n := range []int{200, 400} {
			s := attn.Shape{Batch: 1, QueryLen: n, KeyLen: n, Heads: 2, KVHeads: 2, KeyDim: 16, ValueDim: 16, Mask: attn.Causal}
			st, err := m.(attn.Incremental).NewState(s)
			if err != nil {
				t.Fatal(err)
			}
			ws, prompt := attn.NewWorkspace(), drawn(&info, s)
			prompt.Saved = nil
			if err := m.(attn.Incremental).Extend(ws, st, prompt); err != nil {
				t.Fatal(err)
			}
			s.QueryLen, s.KeyLen = 1, 1
			c := drawn(&info, s)
			c.Saved = nil
			_, read[i] = kernel.Count(func() { err = m.(attn.Incremental).Extend(ws, st, c) })
			if err != nil {
				t.Fatal(err)
			}
		}
		if grows := fmt.Sprintf("%.1f", float64(read[1])/float64(read[0])); constant != (grows == "1.0") || !constant && grows != "2.0" {
			t.Errorf("%s: a token reads %d bytes after 200, %d after 400: constant is to be %v", spec, read[0], read[1], constant)
		}
	}
}
