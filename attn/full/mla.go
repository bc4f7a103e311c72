package full

import (
	"errors"
	"math"
	"math/rand/v2"

	"attnbench/attn"
)

func init() { attn.Register("mla", MLA{}, MLA.New) }

// MLA holds the options of multi-head latent attention, spelled mla:rank=512,rotary=64,qrank=1536.
type MLA struct {
	Rank   int `opt:"rank"`   // width of the latent that holds keys and values of all heads; 0 means 4 times the value dim
	Rotary int `opt:"rotary"` // width of the rotated part of queries and keys, even; 0 means a third of the key dim
	QRank  int `opt:"qrank"`  // width that queries are projected through; 0 means directly
}

// New returns multi-head latent attention.
func (o MLA) New() (attn.Mechanism, error) {
	switch {
	case o.Rank < 0 || o.Rank > 1<<16:
		return nil, attn.OptionError("rank", o.Rank, "an integer from 0 to 65536")
	case o.Rotary < 0 || o.Rotary%2 != 0 || o.Rotary > 1<<16:
		return nil, attn.OptionError("rotary", o.Rotary, "an even integer from 0 to 65536")
	case o.QRank < 0 || o.QRank > 1<<16:
		return nil, attn.OptionError("qrank", o.QRank, "an integer from 0 to 65536")
	}
	m := mla{o: o}
	queryNorm := attn.Norm("")
	if o.QRank > 0 {
		queryNorm = attn.RMSNorm
	}
	one := func(attn.Shape) int { return 1 }
	up := func(name string, rows func(attn.Shape) int) attn.Tensor {
		return attn.Tensor{
			Name: name, Shape: func(s attn.Shape) []int { return []int{s.Heads, rows(s), m.rank(s)} }, Decay: true,
			Init: func(s attn.Shape, dst []float32, r *rand.Rand) {
				attn.Normal(1/math.Sqrt(float64(m.rank(s))))(s, dst, r)
			},
		}
	}
	m.info = &attn.Info{
		Name: attn.Spell("mla", o), Family: "full", Title: "Multi-head latent attention (MLA)",
		Paper: "DeepSeek-AI 2024, arXiv:2405.04434", Year: 2024, Revision: 1,
		Masks: attn.Causal | attn.Bidirectional, RotatesInside: true, Cost: m.cost, CheckShape: m.check,
		Inputs: []attn.Input{
			{Name: "q", From: attn.QuerySide, Rank: o.QRank, RankNorm: queryNorm},
			{Name: "k", From: attn.MemorySide, Heads: one, Width: m.rank, Norm: attn.RMSNorm},
			{Name: "kr", From: attn.MemorySide, Heads: one, Width: m.rotary},
		},
		Learned: []attn.Tensor{up("uk", m.plain), up("uv", attn.ValueWidth)},
	}
	return m, nil
}

type mla struct {
	o    MLA
	info *attn.Info
}

// Info describes the mechanism.
func (m mla) Info() attn.Info { return *m.info }

// rank, rotary and plain are the paper's r, d_r and d_n.
func (m mla) rank(s attn.Shape) int {
	if m.o.Rank > 0 {
		return m.o.Rank
	}
	return 4 * s.ValueDim
}

func (m mla) rotary(s attn.Shape) int {
	if m.o.Rotary > 0 {
		return m.o.Rotary
	}
	return max(2, s.KeyDim/3&^1)
}

func (m mla) plain(s attn.Shape) int { return s.KeyDim - m.rotary(s) }

func (m mla) check(s attn.Shape) error {
	if m.plain(s) < 1 {
		return errors.New("key dim is too small: want more than the rotated part, which is at least 2 wide")
	}
	return nil
}

// Define computes, from the latent c and the rotated key κ of each key, which all heads share, for each head h with queries [qⁿ qʳ],
//
//	k[j] = [W_uk[h] c[j], turn(κ[j])],  v[j] = W_uv[h] c[j],  q[i] = [qⁿ[i], turn(qʳ[i])]
//	o[i] = Σ_j p[i,j] v[j],  p[i,·] = softmax_j(q[i]·k[j] / √(d_n+d_r)) over the keys j that the mask lets i see
//
// where turn rotates by the position (Call.Rope; without, it leaves as is). A query that sees no key gives zeros. DeepSeek-AI 2024
// (arXiv:2405.04434) eq. 9 to 19.
func (m mla) Define(c *attn.Call64) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	c.ZeroPadding()
	r, dn := m.rank(c.Shape), m.plain(c.Shape)
	times := func(w, x []float64) []float64 { // W x
		y := make([]float64, len(w)/len(x))
		for i := range y {
			y[i] = attn.Dot(w[i*r:][:r], x)
		}
		return y
	}
	c.EachHead(func(h attn.Head64) {
		k, v, p := make([][]float64, h.Keys), make([][]float64, h.Keys), make([]float64, h.Keys)
		for j := range k {
			latent := c.K.Row(h.Row, h.Key0+j, 0)
			k[j] = append(times(c.Learned[0][h.H*dn*r:][:dn*r], latent), c.Rope.Turned(c.Extra[0].Row(h.Row, h.Key0+j, 0), h.Pos0+j)...)
			v[j] = times(c.Learned[1][h.H*c.ValueDim*r:][:c.ValueDim*r], latent)
		}
		for i := range h.Queries {
			q := append(append([]float64(nil), h.Q(i)[:dn]...), c.Rope.Turned(h.Q(i)[dn:], h.Pos0+i+h.Offset())...)
			for j := range p {
				p[j] = math.Inf(-1)
				if h.Sees(i, j) {
					p[j] = attn.Dot(q, k[j]) / math.Sqrt(float64(c.KeyDim))
				}
			}
			attn.Softmax(p)
			clear(h.Out(i))
			for j := range p {
				if h.Sees(i, j) { // an unseen value may be NaN
					attn.Axpy(p[j], v[j], h.Out(i))
				}
			}
		}
	})
	return nil
}
