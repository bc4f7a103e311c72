package attntest_test

import (
	"fmt"
	"strings"

	"attnbench/attn"
	"attnbench/attn/attntest"
)

// last gives each query the newest value that it may see.
type last struct{}

func (last) Info() attn.Info {
	return attn.Info{
		Name: "last", Title: "Newest value", Masks: attn.Causal, Inputs: attn.QKV(),
		Cost: func(s attn.Shape, _ attn.Pass) attn.Cost {
			out := int64(s.Batch * s.QueryLen * s.Heads * s.ValueDim)
			return attn.Cost{FLOPs: out, Bytes: 8 * out}
		},
	}
}

func (m last) Forward(_ *attn.Workspace, c *attn.Call) error {
	info := m.Info()
	if err := c.Check(&info); err != nil {
		return err
	}
	newest(c)
	return nil
}

// newest is the same formula for both precisions, being a copy.
func newest[F attn.Float](c *attn.CallOf[F]) {
	c.ZeroPadding()
	for i := range c.NumSegments() {
		for h := range c.Heads {
			h := attn.HeadOf[F]{Call: c, Segment: c.Segment(i), Index: i, H: h, KV: c.KVHead(h)}
			for i := range h.Queries {
				clear(h.Out(i))
				if t := i + h.Offset(); t >= 0 {
					copy(h.Out(i), h.V(t))
				}
			}
		}
	}
}

// In a test of the mechanism's own, attntest.Run(t, last{}, define) is all that it takes.
// Check returns what Run would report.
func ExampleCheck() {
	define := func(c *attn.Call64) error { newest(c); return nil }
	err := attntest.CheckWith(last{}, define, attntest.CheckOptions{Only: "definition"})
	fmt.Println("the newest value:", err)

	first := func(c *attn.Call64) error { // a definition of something else
		c.ZeroPadding()
		c.EachHead(func(h attn.Head64) {
			for i := range h.Queries {
				clear(h.Out(i))
				if i+h.Offset() >= 0 {
					copy(h.Out(i), h.V(0))
				}
			}
		})
		return nil
	}
	err = attntest.CheckWith(last{}, first, attntest.CheckOptions{Only: "definition"})
	message, _, _ := strings.Cut(err.Error(), ": off by")
	fmt.Println("the first value:", message)
	// Output:
	// the newest value: <nil>
	// the first value: definition: forward against the definition
}
