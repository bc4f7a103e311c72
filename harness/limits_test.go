package harness

import (
	"flag"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"attnbench/attn"
	"attnbench/internal/paired"
)

var limits = struct{ mechs, passes, lengths, dims, layouts, masks string }{}

func init() {
	flag.StringVar(&limits.mechs, "limits.mech", "full", "mechanisms, between spaces")
	flag.StringVar(&limits.passes, "limits.pass", "forward,backward,decode", "passes")
	flag.StringVar(&limits.lengths, "limits.n", "512,2048,4096", "tokens")
	flag.StringVar(&limits.dims, "limits.dim", "64,128", "widths of a head")
	flag.StringVar(&limits.layouts, "limits.layout", "heads,time", "heads: each head's rows lie together; time: [T, H, D]")
	flag.StringVar(&limits.masks, "limits.mask", "causal,bidirectional", "masks")
}

// BenchmarkLimits reports how near a pass of 8 heads comes to the machine's limit: of-peak is the median of 7 ratios of its
// needed operations (Info's) to the multiply-add peak measured just before and after, with as many threads; of-read, for
// decoding one token, of the bytes of state that it reads to a plain read of as many.
//
//	go test ./harness -run - -bench Limits -benchtime 1x -cpu 1,2 -limits.n 2048
func BenchmarkLimits(b *testing.B) {
	words := func(s string) []string { return strings.FieldsFunc(s, func(r rune) bool { return r == ',' }) }
	for _, mech := range strings.Fields(limits.mechs) {
		for _, pass := range words(limits.passes) {
			for _, dim := range words(limits.dims) {
				for _, n := range words(limits.lengths) {
					d, err1 := strconv.Atoi(dim)
					t, err2 := strconv.Atoi(n)
					if err1 != nil || err2 != nil {
						b.Fatalf("-limits.dim %s -limits.n %s: want numbers", limits.dims, limits.lengths)
					}
					if pass == "decode" {
						b.Run(fmt.Sprintf("decode/mech=%s/dim=%s/n=%s", mech, dim, n), func(b *testing.B) { limitDecode(b, mech, d, t) })
						continue
					}
					for _, layout := range words(limits.layouts) {
						for _, mask := range words(limits.masks) {
							b.Run(fmt.Sprintf("%s/mech=%s/dim=%s/n=%s/mask=%s/layout=%s", pass, mech, dim, n, mask, layout), func(b *testing.B) {
								limitPass(b, mech, pass, d, t, mask, layout)
							})
						}
					}
				}
			}
		}
	}
}

const limitHeads = 8

func limitPass(b *testing.B, mech, pass string, dim, n int, mask, layout string) {
	m, err := attn.New(mech)
	if err != nil {
		b.Fatal(err)
	}
	s := attn.Shape{Batch: 1, QueryLen: n, KeyLen: n, Heads: limitHeads, KVHeads: limitHeads, KeyDim: dim, ValueDim: dim, Mask: attn.Bidirectional}
	if mask == "causal" {
		s.Mask = attn.Causal
	}
	info := m.Info()
	if info.Masks&s.Mask == 0 {
		b.Skipf("%s: mask is %v: want %v", mech, s.Mask, info.Masks)
	}
	c := newCall(&info, s, 1)
	if layout == "heads" {
		c.Q, c.K, c.V, c.Out = byHead(c.Q), byHead(c.K), byHead(c.V), byHead(c.Out)
	}
	ws := attn.NewWorkspace()
	f, p := func() { m.Forward(ws, c) }, attn.PassForward
	if pass == "backward" {
		d, ok := m.(attn.Differentiable)
		if !ok {
			b.Skipf("%s has no backward pass", mech)
		}
		c.Saved = attn.NewSaved(new(attn.Arena))
		if err := m.Forward(ws, c); err != nil {
			b.Fatal(err)
		}
		g := newGrads(&info, c, 2)
		f, p = func() { d.Backward(ws, c, g) }, attn.PassBackward
	}
	report(b, "of-peak", paired.OfPeak(7, float64(info.Cost(s, p).FLOPs), f))
}

func limitDecode(b *testing.B, mech string, dim, n int) {
	m, err := attn.New(mech)
	if err != nil {
		b.Fatal(err)
	}
	info := m.Info()
	dec, ok := m.(attn.Incremental)
	if !ok {
		b.Skipf("%s does not decode", mech)
	}
	s := attn.Shape{Batch: 1, QueryLen: n, KeyLen: n, Heads: limitHeads, KVHeads: limitHeads, KeyDim: dim, ValueDim: dim, Mask: attn.Causal}
	st, err := dec.NewState(s)
	if err != nil {
		b.Fatal(err)
	}
	ws := attn.NewWorkspace()
	const piece = 4096
	for at := 0; at < n; at += piece {
		t := s
		t.QueryLen, t.KeyLen = 1, min(piece, n-at) // one query a piece: filling the state is not what is timed
		c := newCall(&info, t, uint64(at))
		c.EndOfPrompt = at+piece >= n
		if err := dec.Extend(ws, st, c); err != nil {
			b.Fatal(err)
		}
	}
	one := s
	one.QueryLen, one.KeyLen = 1, n+1
	read := float64(info.Cost(one, attn.PassDecode).Read)
	one.KeyLen = 1
	c := newCall(&info, one, 1)
	x := make([]float32, max(1, int(read)/4))
	for i := range x {
		x[i] = 1
	}
	f := func() { // the state grows by a token a step: by a few hundred in all
		if err := dec.Extend(ws, st, c); err != nil {
			b.Fatal(err)
		}
	}
	report(b, "of-read", paired.OfRead(7, read, x, f))
}

func report(b *testing.B, unit string, s paired.Share) {
	for b.Loop() {
	}
	b.ReportMetric(s.Median, unit)
	b.ReportMetric(s.Low, unit+"-low")
	b.ReportMetric(s.High, unit+"-high")
	b.ReportMetric(0, "ns/op")
}

// byHead returns the view with the rows of each head side by side.
func byHead(v attn.View) attn.View {
	w := v
	w.Data = make([]float32, len(v.Data))
	w.TimeStride, w.HeadStride = v.Dim, v.Time*v.Dim
	w.BatchStride = v.Heads * w.HeadStride
	for b := range v.Batch {
		for t := range v.Time {
			for h := range v.Heads {
				copy(w.Row(b, t, h), v.Row(b, t, h))
			}
		}
	}
	return w
}
