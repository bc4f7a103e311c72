// Package outside is a mechanism in a module of its own, as an author outside of attnbench writes it.
package outside

import "attnbench/attn"

func init() { attn.Register("mean", Mean{Gain: 1}, Mean.New) }

// Mean is the running mean of the values, spelled mean:gain=2.
type Mean struct {
	Gain float64 `opt:"gain"` // factor of the mean; more than 0
}

// New returns the mechanism with the options o.
func (o Mean) New() (attn.Mechanism, error) {
	if o.Gain <= 0 {
		return nil, attn.OptionError("gain", o.Gain, "a number of more than 0")
	}
	m := mean{gain: o.Gain}
	m.info = &attn.Info{
		Name: attn.Spell("mean", o), Family: "outside", Title: "Running mean", Revision: 1, Masks: attn.Causal,
		Inputs: []attn.Input{{Name: "v", From: attn.MemorySide, Heads: attn.KVHeads, Width: attn.ValueWidth}},
		Cost:   cost,
	}
	return m, nil
}

type mean struct {
	gain float64
	info *attn.Info
}

func (m mean) Info() attn.Info { return *m.info }

func cost(s attn.Shape, _ attn.Pass) attn.Cost {
	c := attn.Cost{
		FLOPs: 2 * int64(s.Batch*s.KeyLen*s.KVHeads*s.ValueDim),
		Bytes: 4 * int64(s.Batch*s.ValueDim*(s.KeyLen*s.KVHeads+s.QueryLen*s.Heads)),
	}
	if s.Batch > 0 {
		c.PerWorker = 4 * int64(attn.ScratchFloats(s.ValueDim))
	}
	return c
}

// Define computes, for each head, o[i] = gain/(t+1) · Σ_{j ≤ t} v[j], t = i + keys - queries.
func (m mean) Define(c *attn.Call64) error {
	c.ZeroPadding()
	c.EachHead(func(h attn.Head64) {
		for i := range h.Queries {
			out, t := h.Out(i), i+h.Offset()
			clear(out)
			for j := range t + 1 {
				for n, v := range h.V(j) {
					out[n] += m.gain * v / float64(t+1)
				}
			}
		}
	})
	return nil
}

type args struct {
	gain float32
	c    *attn.Call
}

// Forward keeps one sum a key/value head.
func (m mean) Forward(ws *attn.Workspace, c *attn.Call) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	c.ZeroPadding()
	attn.Parallel(ws, c.NumSegments()*c.KVHeads, c.ValueDim, args{float32(m.gain), c}, func(s *attn.Scratch, a *args, task int) {
		c, g, kv := a.c, a.c.Segment(task/a.c.KVHeads), task%a.c.KVHeads
		group, sum := c.Heads/c.KVHeads, s.Floats(c.ValueDim)
		clear(sum)
		for j := min(0, g.Offset()); j < g.Keys; j++ { // below 0 for queries in front of the first key
			if j >= 0 {
				for n, v := range c.V.Row(g.Row, g.Key0+j, kv) {
					sum[n] += v
				}
			}
			i := j - g.Offset()
			for h := kv * group; i >= 0 && h < (kv+1)*group; h++ {
				for n, x := range sum {
					c.Out.Row(g.Row, g.Query0+i, h)[n] = a.gain * x / float32(max(1, j+1))
				}
			}
		}
	})
	return nil
}
