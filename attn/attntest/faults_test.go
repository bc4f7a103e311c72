package attntest

import (
	"math"
	"runtime"
	"strings"
	"testing"

	"attnbench/attn"
)

// What a fault does to soft, where it is not a line of soft itself.

func (m soft) infoFault(i *attn.Info) {
	switch m.fault {
	case "a name that the registry reads otherwise":
		i.Name = "soft:window=0"
	case "a limit that does not hold":
		i.Limits = []attn.Limit{{Spec: func(attn.Shape) string { return "soft:window=4" }, Equals: "soft"}}
	case "a limit of an unknown mechanism":
		i.Limits = []attn.Limit{{Spec: func(attn.Shape) string { return "soft" }, Equals: "softly"}}
	case "no cost":
		i.Cost = nil
	case "a budget that approximates nothing":
		i.Approximates, i.Budget = false, "window"
	case "no mask":
		i.Masks = 0
	}
}

func (m soft) costFault(c *attn.Cost, p attn.Pass) {
	switch m.fault {
	case "saved bytes wrong":
		c.Saved += 64
	case "scratch formula wrong":
		c.PerWorker += 64
	case "scratch of decoding wrong":
		if p == attn.PassDecode {
			c.Shared += 64
		}
	case "FLOPs of one row":
		c.FLOPs = 1000
	case "state bytes wrong":
		c.State *= 2
	}
}

func (m soft) kvHead(s attn.Shape, h int) int {
	if m.fault == "kv heads tiled" {
		return h % s.KVHeads
	}
	return s.KVHead(h)
}

var (
	sink   []float32
	buffer []float32
	stale  float32
)

func (m soft) check(info *attn.Info, c *attn.Call) error {
	switch m.fault {
	case "panics on bad input":
		_ = c.Q.Row(c.Batch-1, c.QueryLen-1, 0)
	case "output half written on error":
		for i := range c.Out.Data {
			c.Out.Data[i] = 0
		}
	}
	return c.Check(info)
}

func (m soft) forwardFault(ws *attn.Workspace, c *attn.Call) {
	switch m.fault {
	case "scratch made on every call":
		sink = make([]float32, c.KeyLen)
	case "scratch in a global buffer":
		if len(buffer) < c.Batch*c.Heads*c.QueryLen {
			buffer = make([]float32, c.Batch*c.Heads*c.QueryLen)
		}
	case "workspace not released":
		ws.Floats(1)
	case "scratch taken for zeros":
		mark := ws.Mark()
		x := ws.Floats(1 << 14) // its end is nobody else's
		stale = x[len(x)-1]
		ws.Release(mark)
	case "writes to its input":
		if c.V.Batch > 0 && c.V.Time > 0 {
			c.V.Row(0, 0, 0)[0] += 1
		}
	}
}

func (m soft) afterFault(c *attn.Call) {
	first := func(b, t int) []float32 {
		if b >= c.Batch || t >= c.QueryLen || c.KeyLen == 0 || c.Segments != nil {
			return make([]float32, 1)
		}
		return c.Out.Row(b, t, 0)
	}
	switch m.fault {
	case "scratch taken for zeros":
		first(0, 0)[0] += stale
	case "result depends on GOMAXPROCS":
		first(0, 0)[0] += float32(runtime.GOMAXPROCS(0)) * 1e-6
	case "rows of the batch coupled":
		if c.Batch > 1 && c.KeyLen > 0 {
			first(0, 0)[0] += 1e-6 * c.V.Row(1, 0, 0)[0]
		}
	case "heads coupled":
		if c.KVHeads > 1 && c.KeyLen > 0 && c.Batch > 0 {
			first(0, c.QueryLen-1)[0] += 1e-6 * c.V.Row(0, 0, c.KVHeads-1)[0]
		}
	case "reads beyond the segment":
		for i := range c.NumSegments() {
			if g := c.Segment(i); g.Key0+g.Keys < c.KeyLen && g.Queries > 0 {
				c.Out.Row(g.Row, g.Query0, 0)[0] += 1e-7 * c.V.Row(g.Row, g.Key0+g.Keys, 0)[0]
			}
		}
	case "padding left as it is":
		if c.Segments != nil && c.QueryLen > 0 && (len(c.Segments) == 0 || c.Segments[0].Query0+c.Segments[0].Queries < c.QueryLen) {
			c.Out.Row(0, c.QueryLen-1, 0)[0] = 1
		}
	case "weights without the maximum taken off":
		eachRow(c.Q, func(b, t, h int, row []float32) {
			for _, x := range row {
				if x > 88 {
					c.Out.Row(b, t, h)[0] = nan
				}
			}
		})
	case "0 times a value that is not seen":
		if c.Mask == attn.Causal && c.Batch > 0 && c.QueryLen > 0 && c.KeyLen > 0 && c.Segments == nil {
			c.Out.Row(0, 0, 0)[0] += 0 * c.V.Row(0, c.KeyLen-1, 0)[0]
		}
	case "writes between the rows":
		if c.Out.HeadStride > c.Out.Dim && len(c.Out.Data) > c.Out.Dim {
			c.Out.Data[c.Out.Dim] = 1
		}
	}
}

func (m soft) beforeBackward(g *attn.Grads) {
	switch m.fault {
	case "gradient overwritten":
		fillView(g.Q, 0)
	case "0 times a gradient that is not seen":
		if g.Out.Batch > 0 && g.Out.Time > 0 && g.V.Time > 0 {
			g.V.Row(0, g.V.Time-1, 0)[0] += 0 * g.Out.Row(0, 0, 0)[0]
			g.V.Row(0, g.V.Time-1, 0)[0] += 0 * g.Out.Row(0, g.Out.Time/2, 0)[0]
		}
	}
}

// topLeft is a definition with the wrong corner, which a mechanism may share.
func topLeft(c *attn.Call64) error {
	d := *c
	if c.Mask == attn.Causal && c.QueryLen < c.KeyLen && c.Segments == nil {
		d.KeyLen = c.QueryLen
		d.K.Time, d.V.Time = c.QueryLen, c.QueryLen
	}
	return soft{}.define(&d)
}

// transposed exchanges queries and keys where there are as many of both.
func transposed(c *attn.Call64) error {
	d := *c
	if c.QueryLen == c.KeyLen && c.Heads == c.KVHeads {
		d.Q, d.K = c.K, c.Q
	}
	return soft{}.define(&d)
}

func infinite(c *attn.Call64) error {
	if err := (soft{}).define(c); err != nil {
		return err
	}
	if len(c.Out.Data) > 0 {
		c.Out.Data[0] = math.Inf(1)
	}
	return nil
}

func TestConformance(t *testing.T) {
	for name, m := range map[string]interface {
		attn.Mechanism
		define(c *attn.Call64) error
	}{
		"soft": newSoft(soft{}), "window": newSoft(soft{Window: 8}), "top": newSoft(soft{Top: 5}), "rec": newRec(""),
	} {
		t.Run(name, func(t *testing.T) { Run(t, m, m.define) })
	}
}

func TestFaultsAreCaught(t *testing.T) {
	window, top := soft{Window: 8}, soft{Top: 5}
	faulty := func(m soft, fault string) soft { m.fault = fault; return newSoft(m) }
	for _, f := range []struct {
		fault  string // what is wrong
		mech   attn.Mechanism
		define Define // nil for the mechanism's own
		check  string // the check that must say so
	}{
		{"a name that the registry reads otherwise", soft{}, nil, "info"},
		{"no cost", soft{}, nil, "info"},
		{"a budget that approximates nothing", soft{}, nil, "info"},
		{"no mask", soft{}, nil, "definition"},
		{"causal mask aligned top-left", soft{}, nil, "definition"},
		{"kv heads tiled", soft{}, nil, "definition"},
		{"definition transposed", soft{}, transposed, "definition"},
		{"definition that is not finite", soft{}, infinite, "definition"},
		{"writes to its input", soft{}, nil, "definition"},
		{"writes between the rows", soft{}, nil, "definition"},
		{"definition aligned top-left", soft{}, topLeft, "alignment"},
		{"gradient of k missing", soft{}, nil, "gradient"},
		{"gradient overwritten", soft{}, nil, "gradient"},
		{"gradient of an optional input missing", rec{}, nil, "gradient"},
		{"gradient of the learned tensor missing", rec{}, nil, "gradient"},
		{"gradient of the initial state missing", rec{}, nil, "gradient"},
		{"window one key short at decode", window, nil, "decode"},
		{"ring wrong when it first fills", window, nil, "decode"},
		{"state not reset", soft{}, nil, "decode"},
		{"state bytes wrong", soft{}, nil, "decode"},
		{"reorder shares rows", soft{}, nil, "decode"},
		{"trailing bytes accepted", soft{}, nil, "decode"},
		{"ragged rows advance together", rec{}, nil, "decode"},
		{"final state is the one before the last token", rec{}, nil, "carry"},
		{"one token of the future leaks", soft{}, nil, "causality"},
		{"chosen future block", top, nil, "causality"},
		{"rows of the batch coupled", soft{}, nil, "rows"},
		{"heads coupled", soft{}, nil, "rows"},
		{"padding runs through the recurrent state", rec{}, nil, "padding"},
		{"reads beyond the segment", soft{}, nil, "padding"},
		{"padding left as it is", soft{}, nil, "padding"},
		{"NaN on a row without keys", soft{}, nil, "empty"},
		{"a limit that does not hold", soft{}, nil, "limits"},
		{"a limit of an unknown mechanism", soft{}, nil, "limits"},
		{"ties broken differently", top, nil, "selection"},
		{"weights without the maximum taken off", soft{}, nil, "hostile"},
		{"0 times a value that is not seen", soft{}, nil, "hostile"},
		{"0 times a gradient that is not seen", soft{}, nil, "hostile"},
		{"an infinite gate reaches a query before it", rec{}, nil, "hostile"},
		{"result depends on GOMAXPROCS", soft{}, nil, "determinism"},
		{"scratch taken for zeros", soft{}, nil, "definition"},
		{"scratch made on every call", soft{}, nil, "allocation"},
		{"scratch in a global buffer", soft{}, nil, "allocation"},
		{"saved bytes wrong", soft{}, nil, "scratch"},
		{"scratch formula wrong", soft{}, nil, "scratch"},
		{"scratch of decoding wrong", soft{}, nil, "scratch"},
		{"workspace not released", soft{}, nil, "scratch"},
		{"FLOPs of one row", soft{}, nil, "cost"},
		{"panics on bad input", soft{}, nil, "errors"},
		{"output half written on error", soft{}, nil, "errors"},
		{"errors not returned", soft{}, nil, "errors"},
	} {
		t.Run(f.fault, func(t *testing.T) {
			define := f.define
			switch m := f.mech.(type) {
			case soft:
				if define == nil {
					define = m.define
				}
				f.mech = faulty(m, f.fault)
			case rec:
				define = m.define
				f.mech = newRec(f.fault)
			}
			err := CheckWith(f.mech, define, CheckOptions{Only: f.check, Short: testing.Short()})
			if err == nil || !strings.HasPrefix(err.Error(), f.check+": ") {
				t.Errorf("check %s did not fail; got %v", f.check, err)
			}
			if testing.Verbose() && err != nil {
				t.Log(err)
			}
		})
	}
}

func TestEveryCheckHasAFault(t *testing.T) {
	if err := CheckWith(newSoft(soft{}), soft{}.define, CheckOptions{Only: "colour"}); err == nil || !strings.Contains(err.Error(), "want one of info, definition") {
		t.Errorf("unknown check: got %v", err)
	}
	if err := CheckWith(newSoft(soft{}), nil, CheckOptions{Only: "definition"}); err == nil {
		t.Error("no definition: want an error")
	}
}
