// Package sliding holds attention over a window of neighbours.
package sliding

import (
	"fmt"
	"math"

	"attnbench/attn"
	"attnbench/attn/tile"
)

func init() {
	attn.Register("sliding", Sliding{Window: 512, Dilation: 1, Positions: "absolute"}, Sliding.New)
}

// Sliding holds the options of sliding-window attention, spelled sliding:window=512,sinks=4,dilation=2.
type Sliding struct {
	Window   int `opt:"window"`   // span of the window, the query's own token included; at least 1
	Sinks    int `opt:"sinks"`    // first keys that every query sees; at least 0
	Dilation int `opt:"dilation"` // distance between the keys that are seen inside the window; at least 1
	// Positions is absolute, or cache: keys are rotated by their place among those that are seen (StreamingLLM).
	Positions string `opt:"positions"`
}

// most bounds the options: sums of them must not overflow.
const most = 1 << 40

// New returns sliding-window attention with the options o.
func (o Sliding) New() (attn.Mechanism, error) {
	for _, c := range []struct {
		name       string
		value, min int
	}{{"window", o.Window, 1}, {"sinks", o.Sinks, 0}, {"dilation", o.Dilation, 1}} {
		if c.value < c.min || c.value > most {
			return nil, attn.OptionError(c.name, c.value, fmt.Sprintf("an integer from %d to 2^40", c.min))
		}
	}
	if o.Positions == "cache" {
		return o.streaming()
	}
	if o.Positions != "absolute" {
		return nil, attn.OptionError("positions", o.Positions, "absolute or cache")
	}
	m := sliding{Softmax: tile.Softmax{Pattern: o, Window: o.Window, Sinks: o.Sinks}, o: o}
	m.info = &attn.Info{
		Name: attn.Spell("sliding", o), Family: "sliding", Title: "Sliding-window attention",
		Paper: "Beltagy et al. 2020, arXiv:2004.05150; sinks: Xiao et al. 2023, arXiv:2309.17453", Year: 2020, Revision: 1,
		Masks: attn.Causal | attn.Bidirectional, Approximates: true, Budget: "window", Quick: true, Inputs: attn.QKV(), Cost: m.cost,
		Limits: []attn.Limit{{
			Spec: func(s attn.Shape) string {
				return attn.Spell("sliding", Sliding{Window: max(s.KeyLen, 1), Dilation: 1, Positions: "absolute"})
			},
			Equals: "full",
		}},
	}
	return m, nil
}

type sliding struct {
	tile.Softmax
	o    Sliding
	info *attn.Info
}

// Define computes, for each head, softmax attention of query i, at position t = i + Keys - Queries,
// over the keys of
//
//	causal         W(i) = {j ≤ t : t-j < Window and Dilation divides t-j, or j < Sinks}
//	bidirectional  W(i) = {j : |t-j| < Window and Dilation divides t-j, or j < Sinks}
//
//	o[i] = Σ_j p[i,j] v[j],  p[i,·] = softmax_j(q[i]·k[j] / √d) over j in W(i)
//
// A query with empty W(i) gives zeros. Beltagy et al. 2020 (arXiv:2004.05150) §3.1; sinks: Xiao
// et al. 2023 (arXiv:2309.17453) §3.2, with absolute positions.
func (m sliding) Define(c *attn.Call64) error {
	c.ZeroPadding()
	c.EachHead(func(h attn.Head64) {
		for i := range h.Queries {
			seen := m.o.seen(h, i)
			p := make([]float64, len(seen))
			for n, j := range seen {
				p[n] = attn.Dot(h.Q(i), h.K(j)) / math.Sqrt(float64(c.KeyDim))
			}
			attn.Softmax(p)
			clear(h.Out(i))
			for n, j := range seen {
				attn.Axpy(p[n], h.V(j), h.Out(i))
			}
		}
	})
	return nil
}

// seen returns W(i), ascending.
func (o Sliding) seen(h attn.Head64, i int) (list []int) {
	t, w := i+h.Offset(), min(o.Window, h.Keys+h.Queries) // no sum overflows
	for j := 0; j < h.Keys && (j < o.Sinks || j < t+w); j++ {
		if j == o.Sinks {
			j = max(j, t-w+1)
		}
		if j < h.Keys && o.sees(h, i, j) {
			list = append(list, j)
		}
	}
	return list
}

// sees reports whether j is in W(i).
func (o Sliding) sees(h attn.Head64, i, j int) bool {
	d := i + h.Offset() - j
	if !h.Sees(i, j) {
		return false
	}
	return max(d, -d) < o.Window && d%o.Dilation == 0 || j < o.Sinks
}

// reach returns how far behind and ahead of its own position a query sees.
func (o Sliding) reach(mask attn.Mask) (behind, ahead int) {
	if mask == attn.Causal {
		return o.Window - 1, 0
	}
	return o.Window - 1, o.Window - 1
}

// Next implements tile.Pattern: the sinks, then the window.
func (o Sliding) Next(t tile.Tile, from int) tile.Run {
	behind, ahead := o.reach(t.Mask)
	end := t.Keys // behind the last key that the mask lets anyone see
	if t.Mask == attn.Causal {
		end = min(end, t.Last()+1)
	}
	if sinks := min(o.Sinks, end); from < sinks {
		if t.Mask == attn.Causal && t.First < sinks-1 { // some queries lie in front of some sinks
			return tile.Run{Lo: from, Hi: sinks}
		}
		return tile.Run{Lo: from, Hi: sinks, Full: true}
	}
	from = max(from, t.First-behind)
	end = min(end, t.Last()+ahead+1)
	// All queries see the keys from all to allEnd-1.
	all, allEnd := t.Last()-behind, t.First+ahead+1
	switch {
	case o.Dilation > 1 || all >= allEnd || from >= allEnd:
		return tile.Run{Lo: from, Hi: end}
	case from < all:
		return tile.Run{Lo: from, Hi: min(all, end)}
	}
	return tile.Run{Lo: from, Hi: min(allEnd, end), Full: true}
}

// Sees implements tile.Pattern.
func (o Sliding) Sees(t tile.Tile, j int) uint32 {
	behind, ahead := o.reach(t.Mask)
	first := j - t.First // the lane at the key's own position
	if j < o.Sinks {
		if t.Mask == attn.Causal {
			return tile.Bits(first, tile.Lanes)
		}
		return tile.Bits(0, tile.Lanes)
	}
	seen := tile.Bits(first-ahead, first+behind+1)
	if o.Dilation > 1 {
		seen &= o.comb(first)
	}
	return seen
}

// comb returns the lanes whose distance from lane at is a multiple of the dilation.
func (o Sliding) comb(at int) uint32 {
	bits := uint32(0)
	for l := (at%o.Dilation + o.Dilation) % o.Dilation; l < tile.Lanes; l += o.Dilation {
		bits |= 1 << l
	}
	return bits
}

// Info describes the mechanism.
func (m sliding) Info() attn.Info { return *m.info }

func (m sliding) cost(s attn.Shape, p attn.Pass) attn.Cost {
	return m.Softmax.Cost(s, p, m.o.pairs(s)*int64(s.Heads))
}

// pairs counts the visible pairs of one head: row by row, since a row's count is a closed form.
func (o Sliding) pairs(s attn.Shape) int64 {
	n := int64(0)
	for i := range s.QueryLen {
		n += o.rowPairs(s, i)
	}
	return n
}

// rowPairs counts the keys that query i sees.
func (o Sliding) rowPairs(s attn.Shape, i int) int64 {
	behind, ahead := o.reach(s.Mask)
	t := i + s.KeyLen - s.QueryLen
	end := s.KeyLen
	if s.Mask == attn.Causal {
		end = min(end, t+1)
	}
	sinks := min(o.Sinks, max(end, 0))
	// Keys of the window that are no sinks: t - r·Dilation from lo to hi.
	lo, hi := max(t-behind, sinks), min(t+ahead, end-1)
	if lo > hi {
		return int64(sinks)
	}
	return int64(sinks + floor(t-lo, o.Dilation) - floor(t-hi-1, o.Dilation))
}

// floor returns ⌊a/b⌋ for b > 0.
func floor(a, b int) int {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// Forward computes the output.
func (m sliding) Forward(ws *attn.Workspace, c *attn.Call) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	m.Softmax.Forward(ws, c)
	return nil
}

// Backward adds the gradients of q, k and v.
func (m sliding) Backward(ws *attn.Workspace, c *attn.Call, g *attn.Grads) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	if err := g.Check(m.info, c); err != nil {
		return err
	}
	m.Softmax.Backward(ws, c, g)
	return nil
}

// NewState returns an empty ring of the window's size behind the sinks.
func (m sliding) NewState(s attn.Shape) (attn.State, error) {
	return m.Softmax.NewState(m.info.Name, s)
}

// Extend appends the call's keys and values and computes its queries.
func (m sliding) Extend(ws *attn.Workspace, s attn.State, c *attn.Call) error {
	return m.Softmax.Extend(ws, m.info, s, c)
}

func rootOf(dim int) float32 { return float32(1 / math.Sqrt(float64(dim))) }
