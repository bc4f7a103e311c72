package all

import (
	"fmt"
	"math"
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

// once a query head of a group: the first brings a stretch of keys into the nearest cache, the others find it there.
func byHead(group int) int64 { return int64(group) }

const lanes = 32

// tiles is the engine of 32 queries side by side. Where an edge of the mask crosses the tile it computes what the edge hides from
// some of the queries, on average 15.5 keys a query; lanes without a query compute too.
func tiles(edges int, bidirectionalEdges int) work {
	return work{passes: byHead, most: func(s attn.Shape, _ attn.Pass, pairs float64) float64 {
		n := edges
		if s.Mask != attn.Causal {
			n = bidirectionalEdges
		}
		idle := (lanes - s.QueryLen%lanes) % lanes
		return 1 + (float64(n)*(lanes-1)/2*float64(s.QueryLen)+float64(idle*s.KeyLen))/pairs
	}}
}

// biased is the engine of tiles where the distance to a key is added to its score.
var biased = func() work {
	w := tiles(1, 0)
	w.pair = 2
	return w
}()

// forgets also sums the log decays of a head and token in a decoding step, outside products.
var forgets = func() work {
	w := biased
	w.reads = func(s attn.Shape, read int64) int64 {
		return int64(s.Heads/s.KVHeads) * (read - int64(4*s.Batch*s.Heads*s.KeyLen))
	}
	return w
}()

// differs takes the values once for each half.
var differs = func() work {
	w := tiles(1, 0)
	w.most = func(s attn.Shape, p attn.Pass, pairs float64) float64 {
		return tiles(1, 0).most(s, p, pairs*float64(s.KeyDim+s.ValueDim)/float64(s.KeyDim+2*s.ValueDim))
	}
	w.reads = func(s attn.Shape, read int64) int64 {
		return int64(s.Heads/s.KVHeads) * (read + int64(4*s.Batch*s.KVHeads*s.KeyLen*s.ValueDim))
	}
	return w
}()

// latents writes keys and values out over many queries. In a decoding step every head goes through the latents, twice, and through
// its weights; the default widths are 4 value dims and a third of the key dim.
var latents = func() work {
	w := tiles(1, 0)
	w.reads = func(s attn.Shape, read int64) int64 {
		r, dr := 4*s.ValueDim, s.KeyDim/3&^1
		return int64(4 * s.Batch * s.Heads * (s.KeyLen*(2*r+dr) + r*(s.KeyDim-dr+s.ValueDim)))
	}
	return w
}()

// all computes the scores of all pairs.
var all = work{passes: byHead, most: func(s attn.Shape, _ attn.Pass, pairs float64) float64 {
	return float64(s.QueryLen*s.KeyLen) / pairs
}}

// chunks is the engine of recurrences. Forward it takes 32 tokens at a time, of which it computes at most all pairs and
// weighs their values, 2 products; backward so many as a chunk has, 5 products, and once more what a chunk gives to the state's
// gradient when chunks run in parallel.
func chunks(chunk int) work {
	return work{
		writes: true,
		passes: func(group int) int64 { return int64(group) + 1 }, // the update, then a read a query head
		most: func(s attn.Shape, p attn.Pass, _ float64) float64 {
			dk, dv, share := float64(s.KeyDim), float64(s.ValueDim), float64(s.Heads)/float64(s.Heads+s.KVHeads)
			switch {
			case s.Mask != attn.Causal:
				return 1
			case p == attn.PassForward:
				return 1 + share*lanes*(dk+dv)/(dk*dv)
			}
			return 1 + share*(float64(chunk)*(3*dk+2*dv)/(2*dk*dv)+0.5)
		},
	}
}

// deltas is the engine of delta rules: chunks, where the keys read the state as one more query head does, and write once or, where
// they erase apart, twice.
func deltas(chunk, writes int) work {
	return work{
		writes: true,
		passes: func(group int) int64 { return int64(group + 1 + writes) }, // the read of the key, the updates, then a read a query head
		most: func(s attn.Shape, p attn.Pass, _ float64) float64 {
			dk, dv, share := float64(s.KeyDim), float64(s.ValueDim), float64(s.Heads+s.KVHeads)/float64(s.Heads+(1+writes)*s.KVHeads)
			if p == attn.PassForward {
				return 1 + share*lanes*(dk+dv)/(dk*dv)
			}
			return 1 + share*float64(writes*chunk)*(3*dk+2*dv)/(2*dk*dv)
		},
	}
}

// solved is the engine of steps of conjugate gradients on a state of [H G]: an update, then each query goes through H for its start,
// for every step and in place of reading it, and through G once.
func solved(steps int) work {
	return work{
		writes: true,
		passes: byUpdate,
		most: func(s attn.Shape, p attn.Pass, _ float64) float64 {
			if p == attn.PassForward {
				return 1 + 2*8/float64(s.KeyDim) // tokens solved side by side see each other
			}
			return 1 + 0.01 // the copies of tokens' gradients
		},
		reads: func(s attn.Shape, read int64) int64 {
			return byUpdate(s.Heads/s.KVHeads)*read + int64(4*s.Batch*s.Heads)*int64(steps*s.KeyDim*(s.KeyDim+5))
		},
	}
}

// trained is the engine of a model that a step of gradient descent for every batch of tokens trains: keys and queries go through both halves of
// its state, the model and the sums of gradients, and rows have sums of their own. Of the pairs of a batch it computes all.
func trained(batch int) work {
	return work{
		writes: true,
		passes: byUpdate,
		most: func(s attn.Shape, p attn.Pass, _ float64) float64 {
			hidden, h, kv := float64(batch-1)/float64(s.KeyDim), float64(s.Heads), float64(s.KVHeads)
			if p == attn.PassForward {
				return 1 + h*hidden/(h+2*kv)
			}
			return 1 + h*3*hidden/(3*h+5*kv)
		},
		reads: func(s attn.Shape, read int64) int64 {
			return byUpdate(s.Heads/s.KVHeads)*read + int64(4*s.Batch*s.KeyDim*(6*s.KVHeads+3*s.Heads))
		},
	}
}

// byUpdate is an update, then a read a query head.
func byUpdate(group int) int64 { return int64(group) + 1 }

// apart is e where each query head has a state of its own.
func apart(e work) work {
	most := e.most
	e.most = func(s attn.Shape, p attn.Pass, pairs float64) float64 {
		s.KVHeads = s.Heads
		return most(s, p, pairs)
	}
	e.passes = func(int) int64 { return 2 }
	e.apart = true
	return e
}

// bonus is e where the own token is weighed apart from the state: a product of the key's width and one of the value's, a query.
func bonus(e work) work {
	most := e.most
	e.most = func(s attn.Shape, p attn.Pass, pairs float64) float64 {
		return most(s, p, pairs) + float64(s.KeyDim+s.ValueDim)/float64(s.KeyDim*s.ValueDim)
	}
	return e
}

// slots is the engine of recurrences twice, once over keys and once over values. Backward goes through the keys forward too: half as
// many operations as are declared for them.
func slots(chunk int) work {
	e := chunks(chunk)
	most := e.most
	e.most = func(s attn.Shape, p attn.Pass, pairs float64) float64 {
		x, n := most(s, p, pairs), float64(s.KeyDim)
		s.ValueDim = s.KeyDim // the narrower of the two is the dearer
		x = max(x, most(s, p, pairs))
		if p == attn.PassBackward {
			x += 0.5 * n / (n + float64(s.ValueDim)) * most(s, attn.PassForward, pairs)
		}
		return x
	}
	return e
}

// levels is the engine of states apart by distance. In a block of 32 tokens, forward, half of the pairs are hidden; backward their 5
// products for the declared 4 are of whole blocks, at most 2.5 times as much as declared when keys are as wide as values, and merging
// asks for a third product.
var levels = work{
	passes: func(int) int64 { return 1 },
	apart:  true,
	most: func(_ attn.Shape, p attn.Pass, _ float64) float64 {
		if p == attn.PassForward {
			return 2
		}
		return 2.6
	},
}

// features is the engine of recurrences over features, of which each row reads so many floats of weights.
func features(weights func(s attn.Shape) int) work {
	w := chunks(64)
	w.reads = func(s attn.Shape, read int64) int64 {
		return w.passes(s.Heads/s.KVHeads)*read + int64(4*s.Batch*(s.Heads+s.KVHeads)*weights(s))
	}
	return w
}

func none(attn.Shape) int { return 0 }

// engines are the mechanisms' engines, by name; options may change the number of edges.
var engines = map[string]work{
	"full": tiles(1, 0), "full:precision=bf16": tiles(1, 0), "blocksparse": tiles(1, 0), "bigbird": tiles(1, 0), "sliding": tiles(2, 2),
	"sliding:window=100,sinks=4": tiles(2, 3), // at the sinks, an edge only where the window leaves them
	"differential":               differs, "forgetting": forgets, "gated": tiles(1, 0), "gated:gate=head": tiles(1, 0), "mla": latents,
	"alibi": biased, "softcap": tiles(1, 0), "sinklogit": tiles(1, 0),
	"fixed":     tiles(1, 0), // blocks of 128 begin and end with a tile
	"strided":   tiles(5, 0), // the window's two, and those of a stripe every 128 keys: 1.5 of 512 keys, on average
	"naive":     all,
	"sigmoid":   tiles(1, 0), // by rows: below the tiles' waste
	"cosformer": features(none), "based": features(none), "rebased": features(none),
	"hedgehog":  features(func(s attn.Shape) int { return s.KeyDim * s.KeyDim }),
	"performer": features(func(s attn.Shape) int { return s.KeyDim * int(float64(s.KeyDim)*math.Log(float64(s.KeyDim))) }),
	"linear":    chunks(64), "linear:chunk=32,map=relu,normalize=false": chunks(32),
	"gla": chunks(64), "gla:chunk=16": chunks(16),
	"topk": chosen, "moba": chosen, "moba:block=64,k=2": chosen,
	"sliding:window=100,sinks=4,positions=cache": tiles(3, 3),
	"longformer": tiles(3, 3), "longformer:window=60,global=70": tiles(4, 4),
	"nsa": branched, "dsa": branched, "quest:dense=0,budget=128": chosen,
	"deltanet": deltas(64, 1), "deltanet:chunk=16": deltas(16, 1), "gateddeltanet": deltas(64, 1), "kda": deltas(64, 1),
	"kda:chunk=16": deltas(16, 1), "rwkv7": deltas(64, 2), "rwkv7:chunk=16": deltas(16, 2), "mesanet": solved(30),
	"retnet": chunks(64), "lightning": chunks(64), "hgrn2": chunks(64), "rwkv6": bonus(chunks(64)), "mamba2": apart(chunks(64)),
	"gsa": slots(64), "loglinear": levels, "ttt": trained(16), "ttt:batch=40": trained(40), "routing": gathered, "routing:window=32,clusters=7": gathered,
}

// chosen is an engine whose query heads choose keys by content.
var chosen = work{passes: byHead, upTo: true, most: func(attn.Shape, attn.Pass, float64) float64 { return 2 }}

// gathered is an engine of whole tiles: queries and keys are brought together first.
var gathered = work{passes: byHead, most: func(attn.Shape, attn.Pass, float64) float64 { return 1 }}

// branched is one of several branches, which read what they have in common each.
var branched = func() work {
	w := chosen
	w.passes = func(group int) int64 { return 3 * int64(group) }
	return w
}()

// unlisted is for a mechanism that has no engine here yet: nothing left out, nothing done four times.
var unlisted = work{passes: byHead, most: func(attn.Shape, attn.Pass, float64) float64 { return 4 }}

// small is what is done beside products of the sizes above, as a share: the sums of do·o of a backward pass, the decays
// that are weak, a state's scan.
const small = 0.02

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
