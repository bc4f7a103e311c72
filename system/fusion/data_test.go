package fusion

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"attnbench/model/fusion"
	"attnbench/system"
)

// TestLoadErrors: what is wrong with a set is named.
func TestLoadErrors(t *testing.T) {
	good := files()
	header := "wav\timage\tdigit\tword\n"
	const labels, recs, train = imagesSet + "/t10k-labels-idx1-ubyte.gz", soundsSet + "/" + recordings, pairsSet + "/train.tsv"
	if _, err := load(new(system.Fit)); err == nil || !strings.Contains(err.Error(), "no data folder: want --data DIR with the set handwritten-digits") {
		t.Errorf("no folder: %v", err)
	}
	for _, c := range []struct {
		name, file, data, err string
	}{
		{"fewer labels than images", labels, string(zipped([]byte("\x00\x00\x08\x01\x00\x00\x00\x01\x00"))), "40 images and 1 labels: want as many"},
		{"labels cut", labels, string(zipped([]byte("\x00\x00\x08\x01\x00\x00\x00\x02\x00"))), "t10k-labels-idx1-ubyte.gz: idx: dimensions [2]: 1 bytes of data: want more"},
		{"compressed twice", labels, string(zipped(good[labels])), "idx: compressed by gzip: want it unpacked"},
		{"gzip cut", labels, string(good[labels][:len(good[labels])-4]), "t10k-labels-idx1-ubyte.gz: "},
		{"images for labels", labels, string(good[imagesSet+"/t10k-images-idx3-ubyte.gz"]), "dimensions [40 28 28]: want images of 28x28 and one label each"},
		{"recordings cut", recs, string(good[recs][:len(good[recs])/2]), "recordings.tar.gz: "},
		{"header", train, "a\tb\n", `train.tsv: header "a\tb": want wav, image, digit and word between tabs`},
		{"no rows", train, header, "train.tsv: no rows: want one at least behind the header"},
		{"columns", train, header + "a\tb\n", "line 2: 2 columns: want 4"},
		{"image", train, header + "0_george_0.wav\t40\t0\tzero\n", `line 2: image "40": want 0 to 39`},
		{"word", train, header + "0_george_0.wav\t0\t0\tone\n", `line 2: digit "0", word "one": want 0 to 9 and its word`},
		{"label", train, header + "0_george_0.wav\t1\t0\tzero\n", "line 2: image 1 is of 1: want 0"},
		{"recording of another digit", train, header + "1_george_1.wav\t0\t0\tzero\n", `line 2: recording "1_george_1.wav": want one of 0, named digit_speaker_index.wav`},
		{"recording", train, header + "0_george_7.wav\t0\t0\tzero\n", `line 2: recording "0_george_7.wav": it is not in recordings.tar.gz`},
	} {
		all := files()
		all[c.file] = []byte(c.data)
		_, err := load(&system.Fit{Data: write(t, all)})
		if err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v: want %q", c.name, err, c.err)
		}
	}
	delete(good, recs)
	if _, err := load(&system.Fit{Data: write(t, good)}); err == nil || !strings.Contains(err.Error(), "data set spoken-digits: ") {
		t.Errorf("no recordings: %v", err)
	}
}

// TestCorrupt: each state loses what it says.
func TestCorrupt(t *testing.T) {
	random := func() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }
	pixels := slices.Repeat([]float32{1}, side*side)
	corruptImage(pixels, occluded, random())
	dark := 0
	for _, p := range pixels {
		if p == 0 {
			dark++
		}
	}
	if dark != imageHole*imageHole {
		t.Errorf("%d pixels occluded: want %d", dark, imageHole*imageHole)
	}
	sound := slices.Repeat([]float32{1}, 101)
	corruptSound(sound, occluded, random())
	from := slices.Index(sound, 0)
	if silent := sound[from : from+50]; slices.Max(silent) != 0 || slices.Index(sound[from+50:], 0) >= 0 {
		t.Errorf("silent: %v", sound)
	}
	for _, x := range [][]float32{make([]float32, side*side), make([]float32, 1000)} {
		want := soundNoise
		if len(x) == 1000 {
			corruptSound(x, noise, random())
		} else {
			want = imageNoise
			corruptImage(x, noise, random())
		}
		sum := 0.0
		for _, v := range x {
			sum += float64(v) * float64(v)
		}
		if d := math.Sqrt(sum / float64(len(x))); math.Abs(d/want-1) > 0.1 {
			t.Errorf("noise of deviation %v: want %v", d, want)
		}
	}
	same := slices.Repeat([]float32{1}, 100)
	corruptSound(same, clean, random())
	corruptImage(same, clean, random())
	if slices.Min(same) != 1 {
		t.Error("clean: changed")
	}
}

func TestLoudness(t *testing.T) {
	x := []float32{0.01, -0.01, 0.03, 0}
	loudness(x)
	sum := 0.0
	for _, v := range x {
		sum += float64(v) * float64(v)
	}
	if math.Abs(sum/4-1) > 1e-6 {
		t.Errorf("mean square %v: want 1", sum/4)
	}
	loudness(make([]float32, 3))
}

func TestShiftAndSpeed(t *testing.T) {
	pixels := make([]byte, side*side)
	pixels[3*side+5], pixels[0] = 255, 51
	x := shifted(pixels, 2, -1)
	if x[2*side+7] != 1 || slices.Contains(x, 0.2) {
		t.Errorf("moved to %d", slices.Index(x, 1))
	}
	ramp := []float32{0, 1, 2, 3, 4, 5, 6, 7}
	if got := faster(ramp, 2); !slices.Equal(got, []float32{0, 2, 4, 6}) {
		t.Errorf("twice as fast: %v", got)
	}
	if got := faster(ramp, 0.5); len(got) != 16 || got[3] != 1.5 || got[15] != 7 {
		t.Errorf("half as fast: %v", got)
	}
	if got := faster(ramp, 1); !slices.Equal(got, ramp) || &got[0] == &ramp[0] {
		t.Errorf("as fast: %v: want a copy", got)
	}
}

// TestRender: patches are cut from the left and from the top, raw frames are the samples, and what is missing is left out.
func TestRender(t *testing.T) {
	p := &pair{pixels: make([]byte, side*side), samples: slices.Repeat([]float32{2}, 100)}
	p.pixels[5*side+9] = 255 // row 1, column 1 of the patch in row 1, column 2 of patches of 4
	r, err := newRenderer(4, 30, true)
	if err != nil {
		t.Fatal(err)
	}
	s, ok := r.one(&item{kind: fusion.Image, from: p})
	if !ok || len(s.Data) != side*side || slices.Index(s.Data, slices.Max(s.Data)) != 9*16+5 {
		t.Errorf("brightest at %d: want %d", slices.Index(s.Data, slices.Max(s.Data)), 9*16+5)
	}
	s, ok = r.one(&item{kind: fusion.Sound, from: p})
	if !ok || len(s.Data) != 120 || s.Data[99] != 2 || s.Data[100] != 0 {
		t.Errorf("raw frames: %v", s.Data)
	}
	if _, ok := r.one(&item{kind: fusion.Image, from: p, state: missing}); ok {
		t.Error("a missing image is there")
	}
	for i := range p.samples {
		p.samples[i] = float32(math.Sin(float64(i)))
	}
	r, err = newRenderer(28, 80, false)
	if err != nil {
		t.Fatal(err)
	}
	s, _ = r.one(&item{kind: fusion.Sound, from: p})
	sum, square := 0.0, 0.0
	for _, v := range s.Data {
		sum += float64(v)
		square += float64(v) * float64(v)
	}
	if n := float64(melBands); len(s.Data) != melBands || math.Abs(sum/n) > 1e-5 || math.Abs(square/n-1) > 1e-4 {
		t.Errorf("%d numbers of mean %v, square %v: want %d, 0 and 1", len(s.Data), sum/n, square/n, melBands)
	}
	a, b := make([]fusion.Example, 3), make([]fusion.Example, 3)
	examples := make([][]item, 3)
	for i := range examples {
		examples[i] = both(p, p, condition{image: noise, sound: noise}, uint64(i), true)
	}
	r.all(examples, a)
	r.all(examples, b)
	for i := range a {
		for j := range a[i].Spans {
			if !slices.Equal(a[i].Spans[j].Data, b[i].Spans[j].Data) {
				t.Errorf("example %d is another the second time", i)
			}
		}
	}
	if slices.Equal(a[0].Spans[0].Data, a[1].Spans[0].Data) {
		t.Error("two examples have the same noise")
	}
}

func FuzzPairs(f *testing.F) {
	m := &images{make([]byte, 2*side*side), []byte{0, 1}}
	sounds := map[string][]float32{"0_a_0.wav": {1}, "1_a_0.wav": {1}}
	f.Add("wav\timage\tdigit\tword\n0_a_0.wav\t0\t0\tzero\r\n1_a_0.wav\t1\t1\tone")
	f.Add("wav\timage\tdigit\tword\n0_a_0.wav\t-1\t0\tzero\n")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := readPairs(text, m, sounds)
		if err != nil {
			return
		}
		for _, p := range list {
			if p.digit < 0 || p.digit > 1 || p.samples == nil || len(p.pixels) != side*side || !bytes.Contains([]byte(text), []byte(p.speaker)) {
				t.Errorf("%+v", p)
			}
		}
	})
}
