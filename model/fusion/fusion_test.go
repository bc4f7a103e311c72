package fusion_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"attnbench/attn"
	_ "attnbench/attn/all"
	"attnbench/autograd"
	"attnbench/model/fusion"
)

// small is a model of two images' patches, frames of 3 numbers and 6 words.
func small(fuse, mech string) fusion.Config {
	return fusion.Config{
		Image: true, Sound: true, Patches: 4, PatchWidth: 2, FrameWidth: 3, Words: 6, Classes: 5, Fuse: fuse, Dim: 8, Layers: 2, Readers: 2, Heads: 2, MLPWidth: 16,
		MaxLen: 64, Seed: 1, Encoder: mech, Reader: mech, Cross: "full",
	}
}

func newModel(t testing.TB, c fusion.Config) *fusion.Model {
	t.Helper()
	m, err := fusion.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func numbers(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

// examples are of unlike make: two images between words, no sound, no image, words alone.
func examples(r *rand.Rand) []fusion.Example {
	image := func() fusion.Span { return fusion.Span{Kind: fusion.Image, Data: numbers(r, 8)} }
	sound := func(n int) fusion.Span { return fusion.Span{Kind: fusion.Sound, Data: numbers(r, 3*n)} }
	text := func(ask bool, w ...int32) fusion.Span {
		return fusion.Span{Kind: fusion.Text, Words: w, Question: ask}
	}
	return []fusion.Example{
		{[]fusion.Span{image(), sound(5), text(false, 1), image(), sound(2), text(false, 2), text(true, 2, 1)}, []int32{-1, 3, 0, 1}},
		{[]fusion.Span{image(), text(true, 3, 4)}, []int32{-1, 4}},
		{[]fusion.Span{sound(7), text(true, 3)}, []int32{2}},
		{[]fusion.Span{text(true, 5)}, []int32{1}},
	}
}

func predict(t testing.TB, m *fusion.Model, list []fusion.Example) []float32 {
	t.Helper()
	var b fusion.Batch
	if err := b.Pack(&m.Config, list); err != nil {
		t.Fatal(err)
	}
	nll, _, err := m.Predict(autograd.NewTape(attn.NewWorkspace()), &b)
	if err != nil {
		t.Fatal(err)
	}
	return nll
}

// allowed are the mechanisms that encoders can have, under a mask.
func allowed(t *testing.T, mask attn.Mask) (list []string) {
	for _, name := range attn.Names() {
		m, err := attn.New(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := m.(attn.Differentiable); ok && m.Info().Masks&mask != 0 && !m.Info().Inference {
			list = append(list, name)
		}
	}
	if len(list) < 3 {
		t.Fatalf("%d mechanisms: want some", len(list))
	}
	return list
}

// TestBatch: what else is in a batch, and in what order, changes no answer by more than 1e-5, for every way to fuse and every mechanism.
func TestBatch(t *testing.T) {
	for _, mask := range []attn.Mask{attn.Bidirectional, attn.Causal} {
		for _, mech := range allowed(t, mask) {
			for _, fuse := range fusion.Fusions {
				c := small(fuse, mech)
				c.Causal = mask == attn.Causal
				m, err := fusion.New(c)
				if err != nil {
					t.Fatalf("%s: %v", mech, err)
				}
				list := examples(rand.New(rand.NewPCG(1, 2)))
				together := predict(t, m, list)
				var alone []float32
				for i := range list {
					alone = append(alone, predict(t, m, list[i:i+1])...)
				}
				for i := range alone {
					if d := math.Abs(float64(alone[i] - together[i])); !(d < 1e-5) {
						t.Errorf("%s, %s, %v, label %d: %v alone, %v in a batch", fuse, mech, mask, i, alone[i], together[i])
					}
				}
			}
		}
	}
}

// TestReads: an answer depends on the images and sounds of its example, and on no other's; a model without images or sounds does not see them.
func TestReads(t *testing.T) {
	for _, fuse := range fusion.Fusions {
		for _, given := range []string{"both", "image", "sound"} {
			c := small(fuse, "full")
			c.Image, c.Sound = given != "sound", given != "image"
			m := newModel(t, c)
			list := examples(rand.New(rand.NewPCG(1, 2)))
			before := predict(t, m, list)
			for _, x := range []struct {
				span  int
				reads bool
			}{{0, c.Image}, {1, c.Sound}, {3, c.Image}, {4, c.Sound}} {
				old := list[0].Spans[x.span].Data
				list[0].Spans[x.span].Data = numbers(rand.New(rand.NewPCG(3, 4)), len(old))
				after := predict(t, m, list)
				list[0].Spans[x.span].Data = old
				if got := before[2] != after[2]; got != x.reads {
					t.Errorf("%s, %s: the answer depends on span %d: %v: want %v", fuse, given, x.span, got, x.reads)
				}
				if !slices.Equal(before[3:], after[3:]) {
					t.Errorf("%s, %s: span %d changes answers of other examples", fuse, given, x.span)
				}
			}
		}
	}
}

// TestQuestion: the mark of a question tells it from the same words that are part of the text, and the order of patches counts.
func TestQuestion(t *testing.T) {
	m := newModel(t, small("early", "full"))
	list := examples(rand.New(rand.NewPCG(1, 2)))
	before := predict(t, m, list)
	list[3].Spans[0].Question = false
	d := slices.Clone(list[1].Spans[0].Data)
	list[1].Spans[0].Data = append(d[4:], d[:4]...)
	after := predict(t, m, list)
	for i, changed := range []bool{false, false, false, true, false, true} {
		if (before[i] != after[i]) != changed {
			t.Errorf("label %d: %v before, %v after: changed: want %v", i, before[i], after[i], changed)
		}
	}
}

// TestCausal: under a causal mask nothing that follows a word changes its answer.
func TestCausal(t *testing.T) {
	for _, causal := range []bool{true, false} {
		for _, fuse := range []string{"early", "late"} { // a reader sees all of its memory
			c := small(fuse, "full")
			c.Causal = causal
			m := newModel(t, c)
			list := examples(rand.New(rand.NewPCG(1, 2)))[:1]
			list[0].Labels[0] = 2
			before := predict(t, m, list)[0]
			list[0].Spans[4].Data = numbers(rand.New(rand.NewPCG(3, 4)), 6)
			if after := predict(t, m, list)[0]; (before == after) != causal {
				t.Errorf("%s, causal %v: %v before a later sound changed, %v after", fuse, causal, before, after)
			}
		}
	}
}

// TestGradient: derivatives along random directions of all parameters.
func TestGradient(t *testing.T) {
	for _, fuse := range fusion.Fusions {
		m := newModel(t, small(fuse, "full"))
		var b fusion.Batch
		if err := b.Pack(&m.Config, examples(rand.New(rand.NewPCG(1, 2)))); err != nil {
			t.Fatal(err)
		}
		tape := autograd.NewTape(attn.NewWorkspace())
		loss := func() autograd.Var {
			tape.Reset()
			l, err := m.Loss(tape, &b, 0)
			if err != nil {
				t.Fatal(err)
			}
			return l
		}
		if err := tape.Backward(loss()); err != nil {
			t.Fatal(err)
		}
		for _, p := range m.Params() {
			for i := 0; p.Name == "image.places.weight" && i < len(p.Grad); i += m.Config.Dim {
				if p.Grad[i] == 0 {
					t.Errorf("%s: no gradient for place %d", fuse, i/m.Config.Dim)
				}
			}
			r := rand.New(rand.NewPCG(5, 6))
			start, d := slices.Clone(p.Data), numbers(r, len(p.Data))
			want := 0.0
			for i := range d {
				want += float64(p.Grad[i]) * float64(d[i])
			}
			const h = 2e-3
			at := func(s float32) float64 {
				for i := range d {
					p.Data[i] = start[i] + s*d[i]
				}
				return float64(tape.Scalar(loss()))
			}
			got := (at(h) - at(-h)) / (2 * h)
			copy(p.Data, start)
			if math.Abs(got-want) > 2e-3+0.02*math.Abs(want) {
				t.Errorf("%s, %s: derivative %v: gradient says %v", fuse, p.Name, got, want)
			}
		}
	}
}

// TestSameBits: loss and gradients are the same on any number of cores, with dropout.
func TestSameBits(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, fuse := range fusion.Fusions {
		var want string
		for _, n := range []int{1, 2, 7} {
			runtime.GOMAXPROCS(n)
			c := small(fuse, "full")
			c.Dropout = 0.2
			m := newModel(t, c)
			var b fusion.Batch
			if err := b.Pack(&m.Config, examples(rand.New(rand.NewPCG(1, 2)))); err != nil {
				t.Fatal(err)
			}
			tape := autograd.NewTape(attn.NewWorkspace())
			l, err := m.Loss(tape, &b, 9)
			if err != nil {
				t.Fatal(err)
			}
			got := fmt.Sprint(tape.Scalar(l))
			if err := tape.Backward(l); err != nil {
				t.Fatal(err)
			}
			for _, p := range m.Params() {
				got += fmt.Sprint(p.Grad)
			}
			if want == "" {
				want = got
			}
			if got != want {
				t.Errorf("%s: other bits at %d", fuse, n)
			}
		}
	}
}

func TestErrors(t *testing.T) {
	for _, c := range []struct {
		change func(c *fusion.Config)
		err    string
	}{
		{func(c *fusion.Config) { c.Image, c.Sound = false, false }, "fusion: neither images nor sounds: want one at least"},
		{func(c *fusion.Config) { c.Fuse = "middle" }, `fusion: fusion "middle": want early, cross, late`},
		{func(c *fusion.Config) { c.Heads = 3 }, "fusion: dim 8 over 3 heads: want a multiple"},
		{func(c *fusion.Config) { c.Dropout = 1 }, "fusion: dropout 1: want 0 to below 1"},
		{func(c *fusion.Config) { c.Patches = 0 }, "fusion: patches is 0: want at least 1"},
		{func(c *fusion.Config) { c.Fuse, c.Readers = "cross", 0 }, "fusion: readers is 0: want at least 1"},
		{func(c *fusion.Config) { c.Encoder = "gla" }, "mask is bidirectional: want causal"},
	} {
		x := small("early", "full")
		c.change(&x)
		if _, err := fusion.New(x); err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%v: want %q", err, c.err)
		}
	}
	m := newModel(t, small("early", "full"))
	for _, c := range []struct {
		change func(x *fusion.Example)
		err    string
	}{
		{func(x *fusion.Example) { x.Spans[0].Data = x.Spans[0].Data[:6] }, "fusion: example 0: span 0: image of 6 pixels: want 4 patches of 2"},
		{func(x *fusion.Example) { x.Spans[1].Data = x.Spans[1].Data[:4] }, "span 1: sound of 4 numbers: want frames of 3"},
		{func(x *fusion.Example) { x.Spans[2].Words = []int32{6} }, "span 2: word 6: want 0 to 5"},
		{func(x *fusion.Example) { x.Spans[2].Kind = 9 }, "span 2: kind 9: want image, sound or text"},
		{func(x *fusion.Example) { x.Labels = x.Labels[:3] }, "3 labels for 4 words: want one a word"},
		{func(x *fusion.Example) { x.Labels[0] = 5 }, "label 0 is 5: want -1 to 4"},
		{func(x *fusion.Example) { x.Spans[1].Data = make([]float32, 300) }, "want at most max length 64"},
	} {
		list := examples(rand.New(rand.NewPCG(1, 2)))
		c.change(&list[0])
		var b fusion.Batch
		if err := b.Pack(&m.Config, list); err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%v: want %q", err, c.err)
		}
	}
	var b fusion.Batch
	if err := b.Pack(&m.Config, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Loss(autograd.NewTape(attn.NewWorkspace()), &b, 0); err == nil || !strings.Contains(err.Error(), "no labels") {
		t.Errorf("no examples: %v", err)
	}
}
