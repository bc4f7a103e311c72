package linear

import (
	"fmt"
	"math"
	"math/rand/v2"

	"attnbench/attn"
	"attnbench/attn/tile"
)

func init() { attn.Register("rwkv7", RWKV7{Chunk: 64}, RWKV7.New) }

// RWKV7 holds the options of RWKV-7, spelled rwkv7:chunk=32.
type RWKV7 struct {
	Chunk int `opt:"chunk"` // tokens between the states kept for training, computed by up to 16; at least 1
}

// Inputs besides q, k and v, in this order.
const (
	rwkvW  = iota // log decay, [kv heads, key dim]
	rwkvA         // η, the rate of erasing, [kv heads, key dim]
	rwkvM         // how much of the first layer's value, [kv heads, value dim]
	rwkvV1        // the first layer's value, [kv heads, value dim]
	rwkvG         // output gate, [heads, value dim]
)

// Learned tensors, in this order.
const (
	rwkvKK   = iota // scale of the keys that erase, [kv heads, key dim]
	rwkvKA          // how much η weakens a key, [kv heads, key dim]
	rwkvRK          // weights of the bonus, [heads, key dim]
	rwkvGain        // of the group norm, [heads, value dim]
	rwkvBias
)

// New returns RWKV-7 with the options o.
func (o RWKV7) New() (attn.Mechanism, error) {
	m := rwkv7{rule: tile.Delta{Chunk: o.Chunk, Decay: tile.ChannelDecay, Scale: 1, Erase: true}}
	if err := m.rule.Check(); err != nil {
		return nil, err
	}
	input := func(name string, width func(attn.Shape) int) attn.Input {
		return attn.Input{Name: name, From: attn.MemorySide, Heads: attn.KVHeads, Width: width, Shift: true}
	}
	q, k, v := input("q", attn.KeyWidth), input("k", attn.KeyWidth), input("v", attn.ValueWidth)
	w, a, mix, g := input("w", attn.KeyWidth), input("a", attn.KeyWidth), input("m", attn.ValueWidth), input("g", attn.ValueWidth)
	q.From, q.Heads, g.From, g.Heads = attn.QuerySide, attn.QueryHeads, attn.QuerySide, attn.QueryHeads
	w.Rank, w.RankAct, w.Bias, w.Act, w.Scale, w.Init = 64, attn.Tanh, true, attn.Sigmoid, -math.Exp(-0.5), decaySpeeds
	a.Rank, a.Bias, a.Act = 64, true, attn.Sigmoid
	mix.Rank, mix.Bias, mix.Act, mix.Init = 32, true, attn.Sigmoid, attn.Const(1)
	g.Rank, g.RankAct = 128, attn.Sigmoid
	v1 := input("v1", attn.ValueWidth)
	v1.From, v1.Tied, v1.Shift = attn.FirstLayer, "v", false
	keys := func(s attn.Shape) []int { return []int{s.KVHeads, s.KeyDim} }
	outs := func(s attn.Shape) []int { return []int{s.Heads, s.ValueDim} }
	m.info = &attn.Info{
		Name:     attn.Spell("rwkv7", o),
		Family:   "linear",
		Title:    "RWKV-7",
		Paper:    "Peng et al. 2025, arXiv:2503.14456",
		Year:     2025,
		Revision: 1,
		Masks:    attn.Causal,
		Decode:   attn.DecodeAlways,
		Inputs:   []attn.Input{q, k, v, w, a, mix, v1, g},
		Learned: []attn.Tensor{
			{Name: "k_k", Shape: keys, Init: attn.Const(0.85)},
			{Name: "k_a", Shape: keys, Init: attn.Const(1)},
			{Name: "r_k", Shape: func(s attn.Shape) []int { return []int{s.Heads, s.KeyDim} }},
			{Name: "gain", Shape: outs, Init: attn.Const(1)},
			{Name: "bias", Shape: outs},
		},
		Carry: m.rule.Carry,
		Cost:  m.cost,
	}
	return m, nil
}

// decaySpeeds spreads the biases of w over the channels of a head: from decays of 0.999 a step to 0.56.
func decaySpeeds(s attn.Shape, dst []float32, _ *rand.Rand) {
	for i := range dst {
		dst[i] = -6 + 8.5*float32(i%s.KeyDim)/float32(max(1, s.KeyDim-1))
	}
}

// rwkv7 is a tile.Delta that erases and writes with different keys, between maps of a token's inputs (rwkv7token.go) and
// outputs (rwkv7out.go).
type rwkv7 struct {
	rule tile.Delta
	info *attn.Info
}

func (m rwkv7) Info() attn.Info { return *m.info }

// groupEps is that of the group norm, times the width of a head.
const groupEps = 1e-5

// Define is RWKV-7, token by token. With η = a and the log decay w:
//
//	κ̂ = k∘k_k / ‖k∘k_k‖,  k̃ = k∘(1 + (η-1)∘k_a),  v' = v + (v1-v)∘m
//	S_t = diag(e^{w_t}) S_{t-1} - (κ̂_t∘η_t)(S_{t-1}ᵀκ̂_t)ᵀ + k̃_t v'_tᵀ
//	o_t = g_t ∘ (norm(S_tᵀ r_t) + (Σ_c r_tc k̃_tc r_kc) v'_t)
//
// r is the query; decay and erasure both act on the old state, and the query reads after the write. norm takes the mean and deviation of
// a head's output (eps 1e-5 times its width), then gain and bias. v1 is v of the model's first layer. Queries that see no key
// give zeros. Peng et al. 2025 (arXiv:2503.14456) eq. 1 to 22.
func (m rwkv7) Define(c *attn.Call64) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	c.ZeroPadding()
	c.EachHead(func(h attn.Head64) {
		dk, dv := c.KeyDim, c.ValueDim
		kk, ka, rk := c.Learned[rwkvKK][h.KV*dk:], c.Learned[rwkvKA][h.KV*dk:], c.Learned[rwkvRK][h.H*dk:]
		gain, bias := c.Learned[rwkvGain][h.H*dv:], c.Learned[rwkvBias][h.H*dv:]
		s := newState64(h, false)
		for i := range min(h.Queries, -h.Offset()) {
			clear(h.Out(i))
		}
		erase, key, value, read := make([]float64, dk), make([]float64, dk), make([]float64, dv), make([]float64, dv)
		for j := range h.Keys {
			k, w, eta := h.K(j), h.KeySide(rwkvW, j), h.KeySide(rwkvA, j)
			norm := 1e-12
			for a := range k {
				erase[a], key[a] = k[a]*kk[a], k[a]*(1+(eta[a]-1)*ka[a])
				norm += erase[a] * erase[a]
			}
			for b, v := range h.V(j) {
				value[b] = v + (h.KeySide(rwkvV1, j)[b]-v)*h.KeySide(rwkvM, j)[b]
			}
			clear(read)
			for a := range erase {
				erase[a] /= math.Sqrt(norm)
				for b := range read {
					read[b] += erase[a] * s.s[a*dv+b]
				}
			}
			for a := range k {
				for b := range value {
					x := &s.s[a*dv+b]
					*x = math.Exp(w[a])**x - erase[a]*eta[a]*read[b] + key[a]*value[b]
				}
			}
			i := j - h.Offset()
			if i < 0 {
				continue
			}
			out, bonus := h.Out(i), 0.0
			clear(out)
			for a, r := range h.Q(i) {
				bonus += r * key[a] * rk[a]
				for b := range out {
					out[b] += r * s.s[a*dv+b]
				}
			}
			mean, variance := 0.0, groupEps*float64(dv)
			for _, x := range out {
				mean += x / float64(dv)
			}
			for _, x := range out {
				variance += (x - mean) * (x - mean) / float64(dv)
			}
			for b, g := range c.Extra[rwkvG].Row(h.Row, h.Query0+i, h.H) {
				out[b] = g * ((out[b]-mean)/math.Sqrt(variance)*gain[b] + bias[b] + bonus*value[b])
			}
		}
		s.store(h)
	})
	return nil
}

func (m rwkv7) Forward(ws *attn.Workspace, c *attn.Call) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	d := m.derive(ws, c)
	m.rule.Forward(ws, &d.call)
	m.finish(ws, c, d)
	d.close(ws)
	return nil
}

func (m rwkv7) Backward(ws *attn.Workspace, c *attn.Call, g *attn.Grads) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	if err := g.Check(m.info, c); err != nil {
		return err
	}
	d := m.derive(ws, c)
	like := func(v attn.View) attn.View {
		return attn.ViewAs(ws.Zeros(v.Batch*v.Time*v.Heads*v.Dim), v.Batch, v.Time, v.Heads, v.Dim)
	}
	d.grads = attn.Grads{Out: like(c.Out), Q: g.Q, K: like(d.call.K), V: like(d.call.V), Initial: g.Initial, Final: g.Final}
	d.dx = [3]attn.View{g.Extra[rwkvW], like(d.x[1]), like(d.x[2])}
	d.grads.Extra = d.dx[:3]
	a := rwkvArgs{c: c, d: d, g: g, o: attn.ViewAs(c.Saved.Part(2), c.Batch, c.QueryLen, c.Heads, c.ValueDim)}
	tasks := min(c.Batch, 1) * c.KVHeads
	attn.Parallel(ws, tasks, attn.ScratchFloats(c.ValueDim), a, rwkvOutGradTask)
	m.rule.Backward(ws, &d.call, &d.grads)
	attn.Parallel(ws, tasks, attn.ScratchFloats(c.KeyDim, c.KeyDim, c.KeyDim), a, rwkvTokenGradTask)
	d.close(ws)
	return nil
}

func (m rwkv7) NewState(s attn.Shape) (attn.State, error) {
	state, err := m.rule.NewState(m.info.Name, s)
	if err != nil {
		return nil, err // not a nil *RecurState in a State
	}
	return state, nil
}

func (m rwkv7) Extend(ws *attn.Workspace, s attn.State, c *attn.Call) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	if state, ok := s.(*tile.RecurState); ok {
		for i := range c.NumSegments() {
			if g := c.Segment(i); g.Offset() < 0 && g.Row < c.Batch && state.Holds(g.Row) {
				return fmt.Errorf("%s: segment %d: %d queries for %d new keys: a query wants its own token, want no more queries than keys",
					m.info.Name, i, g.Queries, g.Keys)
			}
		}
	}
	d := m.derive(ws, c)
	err := m.rule.Extend(ws, s, &d.call)
	if err == nil {
		m.finish(ws, c, d)
	}
	d.close(ws)
	return err
}

func (m rwkv7) cost(s attn.Shape, p attn.Pass) attn.Cost {
	cost := m.rule.Cost(s, p)
	b, h, kvh, dk, dv := s.Batch, s.Heads, s.KVHeads, s.KeyDim, s.ValueDim
	keys := s.KeyLen
	if p == attn.PassDecode {
		keys = s.QueryLen
	}
	out := b * s.QueryLen * h * dv
	k, v := b*keys*kvh*dk, b*keys*kvh*dv
	// Where the rule has three views of key width, the mechanism has two; it has two more of the values, and a gate.
	bytes := 4 * int64(2*v-k+out)
	cost.Shared += 4 * int64(attn.ScratchFloats(k, k, k, v))
	if b > 0 {
		cost.PerWorker = max(cost.PerWorker, 4*int64(rwkvFloats(s)))
	}
	switch p {
	case attn.PassForward:
		cost.Saved += 4 * int64(attn.ScratchFloats(out))
	case attn.PassBackward:
		bytes *= 2
		cost.Shared += 4 * int64(attn.ScratchFloats(out, k, k, k, v))
	}
	cost.Bytes += bytes
	return cost
}
