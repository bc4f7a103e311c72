package fusion

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	_ "attnbench/attn/all"
	"attnbench/model/fusion"
	"attnbench/system"
	"attnbench/task"
	"attnbench/train"
)

// small are options by which a model trains in a fraction of a second.
const small = ",dim=16,layers=1,readers=1,heads=2,patch=14,hop=256,batch=4"

func newFuser(t testing.TB, spec string) *fuser {
	t.Helper()
	s, err := system.New(spec)
	if err != nil {
		t.Fatal(err)
	}
	return s.(*fuser)
}

// files are those of made-up sets: bars for images, tones for sounds, 20 pairs to train on and 10 each to validate and to test.
func files() map[string][]byte { return maps.Clone(madeUp()) }

var madeUp = sync.OnceValue(func() map[string][]byte {
	var pixels, labels []byte
	var recs bytes.Buffer
	archive := tar.NewWriter(&recs)
	pairs := map[string]string{}
	r := rand.New(rand.NewPCG(1, 1))
	for i := range 40 {
		d := i % 10
		labels = append(labels, byte(d))
		for at := range side * side {
			p := byte(0)
			if at/side/2 == d+1 {
				p = 255
			}
			pixels = append(pixels, p)
		}
		part, speaker := "train", "george"
		if i >= 30 {
			part, speaker = "test", "yweweler"
		} else if i >= 20 {
			part, speaker = "valid", "theo"
		}
		name := fmt.Sprintf("%d_%s_%d.wav", d, speaker, i)
		sound := binary.LittleEndian.AppendUint32([]byte("WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00\x80\x3e\x00\x00\x02\x00\x10\x00data"), 0)
		n := 1200 + r.IntN(800)
		binary.LittleEndian.PutUint32(sound[len(sound)-4:], uint32(2*n))
		for j := range n {
			sound = binary.LittleEndian.AppendUint16(sound, uint16(int16(8000*math.Sin(float64(j)*0.1*float64(d+2)))))
		}
		sound = append(binary.LittleEndian.AppendUint32([]byte("RIFF"), uint32(len(sound))), sound...)
		archive.WriteHeader(&tar.Header{Name: name, Size: int64(len(sound)), Mode: 0o644})
		archive.Write(sound)
		if pairs[part] == "" {
			pairs[part] = "wav\timage\tdigit\tword\n"
		}
		pairs[part] += fmt.Sprintf("%s\t%d\t%d\t%s\n", name, i, d, digits[d])
	}
	archive.Close()
	all := map[string][]byte{
		imagesSet + "/t10k-images-idx3-ubyte.gz": zipped(append([]byte("\x00\x00\x08\x03\x00\x00\x00\x28\x00\x00\x00\x1c\x00\x00\x00\x1c"), pixels...)),
		imagesSet + "/t10k-labels-idx1-ubyte.gz": zipped(append([]byte("\x00\x00\x08\x01\x00\x00\x00\x28"), labels...)),
		soundsSet + "/" + recordings:             zipped(recs.Bytes()),
	}
	for part, text := range pairs {
		all[pairsSet+"/"+part+".tsv"] = []byte(text)
	}
	return all
})

func zipped(data []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(data)
	w.Close()
	return b.Bytes()
}

func write(t testing.TB, all map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range all {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o777), os.WriteFile(path, data, 0o666)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// same are the values that do not depend on the clock.
func same(r system.Result) string { return fmt.Sprint(r.Values, r.Params, r.Steps) }

// TestFit: every form, fusion and input trains with each kind of mechanism and gives the metrics that it declares, in their order.
func TestFit(t *testing.T) {
	dir := write(t, files())
	for _, c := range []struct{ spec, mech string }{
		{"form=digit", "full"},
		{"form=digit,fuse=late", "linear"},
		{"form=digit,fuse=cross", "full"},
		{"form=digit,fuse=cross,corrupt=both-noise", "sliding:window=8+full+linear"},
		{"form=digit,input=image", "full|linear"},
		{"form=digit,input=sound,test=theo", "full"},
		{"form=digit,causal=true,frames=raw", "gla"},
		{"form=match,fuse=late,test=valid", "full"},
		{"form=match,fuse=cross,input=image", "full"},
		{"form=recall,items=9", "full"},
		{"form=recall,items=8,fuse=cross", "linear"},
		{"form=recall,items=8,fuse=late,input=sound", "full"},
	} {
		size := strings.Replace(small, "layers=1", fmt.Sprint("layers=", 1+strings.Count(c.mech, "|")), 1) // one for each of a pattern
		x := newFuser(t, "fusion:"+c.spec+size)
		r, err := x.Fit(t.Context(), system.Fit{Data: dir, Mech: c.mech, Seed: 1, Steps: 2})
		if err != nil {
			t.Errorf("%s, %s: %v", c.spec, c.mech, err)
			continue
		}
		var got, want []string
		for _, v := range r.Values {
			got = append(got, v.Unit)
			if !(v.Value >= 0) {
				t.Errorf("%s: %v", c.spec, v)
			}
		}
		for _, m := range x.info.Metrics {
			want = append(want, m.Unit)
		}
		if !slices.Equal(got, want) || r.Steps != 2 || r.Params == 0 {
			t.Errorf("%s: metrics %v, %d steps, %d parameters: want %v", c.spec, got, r.Steps, r.Params, want)
		}
	}
}

// TestLearns: bars and tones are told apart after a few steps, and one input alone answers by what it is given.
func TestLearns(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: nothing is trained")
	}
	dir := write(t, files())
	for _, c := range []struct {
		spec  string
		least map[string]float64
	}{
		{"form=digit", map[string]float64{"accuracy@clean": 0.8, "accuracy@image-missing": 0.4, "accuracy@sound-missing": 0.4}},
		{"form=digit,input=image", map[string]float64{"accuracy@sound-missing": 0.8}},
	} {
		x := newFuser(t, "fusion:"+c.spec+",dim=32,layers=1,heads=2,patch=14,hop=256,batch=10,dropout=0,rate=0.005")
		r, err := x.Fit(t.Context(), system.Fit{Data: dir, Mech: "full", Seed: 1, Steps: 150})
		if err != nil {
			t.Fatal(err)
		}
		for unit, least := range c.least {
			i := slices.IndexFunc(r.Values, func(v task.Value) bool { return v.Unit == unit })
			if r.Values[i].Value < least {
				t.Errorf("%s: %s is %v: want at least %v", c.spec, unit, r.Values[i].Value, least)
			}
		}
	}
}

// TestResume: a run that was stopped and resumed is one that was not, to the bit, on any number of cores.
func TestResume(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	dir := write(t, files())
	for _, form := range []string{"digit", "recall,items=8"} {
		x := newFuser(t, "fusion:form="+form+small)
		fit := system.Fit{Data: dir, Mech: "full", Seed: 3, Steps: 6}
		whole, err := x.Fit(t.Context(), fit)
		if err != nil {
			t.Fatal(err)
		}
		runtime.GOMAXPROCS(7)
		ctx, cancel := context.WithCancel(t.Context())
		fit.Checkpoint = filepath.Join(t.TempDir(), "c")
		fit.Progress = func(p train.Progress) {
			if p.Step == 3 {
				cancel()
			}
		}
		if _, err := x.Fit(ctx, fit); !errors.Is(err, context.Canceled) {
			t.Fatalf("stopped: %v", err)
		}
		runtime.GOMAXPROCS(1)
		resumed, err := x.Fit(t.Context(), fit)
		if err != nil {
			t.Fatal(err)
		}
		if same(whole) != same(resumed) {
			t.Errorf("%s: %s in one run: %s in two", form, same(whole), same(resumed))
		}
	}
}

// loaded are the made-up sets, read.
func loaded(t *testing.T) *data {
	t.Helper()
	d, err := load(&system.Fit{Data: write(t, files())})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestParts: parts are disjoint, as the set has them or by speaker.
func TestParts(t *testing.T) {
	d := loaded(t)
	for _, c := range []struct {
		name        string
		train, test int
	}{{"test", 20, 10}, {"valid", 20, 10}, {"theo", 30, 10}, {"george", 20, 20}, {"lucas", 40, 0}} {
		training, test := d.part(c.name)
		if len(training) != c.train || len(test) != c.test {
			t.Errorf("%s: %d and %d: want %d and %d", c.name, len(training), len(test), c.train, c.test)
		}
		for _, p := range training {
			if slices.ContainsFunc(test, func(q pair) bool { return q.speaker == p.speaker }) {
				t.Errorf("%s: %s in training and in the test", c.name, p.speaker)
			}
		}
	}
}

// TestTraining: an epoch has each pair once, another epoch in another order; a batch is a function of seed and step alone.
func TestTraining(t *testing.T) {
	d := loaded(t)
	x := newFuser(t, "fusion")
	k := newBatches(x, d.train, d.test, 5)
	var orders []string
	for epoch := range 2 {
		seen := map[*pair]bool{}
		order := ""
		for step := range 4 {
			b := k.Train(5, epoch*4+step, 5)
			for row := range b.Rows {
				p := k.plan(int(b.Tokens[row*b.Length]), int(b.Tokens[row*b.Length+1]))
				seen[p.items[0].from] = true
				order += fmt.Sprint(p.items[0].from.digit)
			}
		}
		if len(seen) != 20 {
			t.Errorf("epoch %d has %d pairs: want 20", epoch, len(seen))
		}
		orders = append(orders, order)
	}
	if orders[0] == orders[1] {
		t.Errorf("both epochs in order %s", orders[0])
	}
	late := k.Train(5, 9, 5)
	k.Train(5, 0, 5)
	if again := newBatches(x, d.train, d.test, 5).Train(5, 9, 5); !slices.Equal(late.Labels, again.Labels) || !slices.Equal(late.Tokens, again.Tokens) {
		t.Error("the batch of a step depends on what was asked before")
	}
}

// TestMatch: half of the test's rows are as they are, the others have the image of the next row of another digit; about half of the training does.
func TestMatch(t *testing.T) {
	d := loaded(t)
	x := newFuser(t, "fusion:form=match")
	if len(x.conditions) != 7 {
		t.Errorf("%d conditions: want those without anything missing, 7", len(x.conditions))
	}
	k := newBatches(x, d.train, d.test, 5)
	for i := range d.test {
		p := k.plan(1, i)
		image, sound, answer := p.items[0].from, p.items[1].from, p.labels[2]
		want := &d.test[i]
		if i%2 == 1 {
			want = &d.test[(i+1)%len(d.test)]
		}
		if image != want || sound != &d.test[i] || answer != int32(1-i%2) {
			t.Errorf("row %d: image of %d, sound of %d, answer %d", i, image.digit, sound.digit, answer)
		}
	}
	yes := 0
	for i := range 400 {
		p := k.plan(-1, i)
		if same := p.items[0].from.digit == p.items[1].from.digit; same != (p.labels[2] == 1) {
			t.Errorf("example %d: labelled %d", i, p.labels[2])
		}
		yes += int(p.labels[2])
	}
	if yes < 160 || yes > 240 {
		t.Errorf("%d of 400 match: want about half", yes)
	}
}

// TestRecall: names are used once, each question has one answer, that of the digit so named, and one who only reads gets all right.
func TestRecall(t *testing.T) {
	d := loaded(t)
	x := newFuser(t, "fusion:form=recall,items=20")
	if got := x.lengths(); !slices.Equal(got, []int{8, 16, 20}) {
		t.Errorf("lengths %v", got)
	}
	if distinct := slices.Compact(slices.Sorted(slices.Values(names))); len(distinct) != len(names) {
		t.Errorf("%d names, %d distinct", len(names), len(distinct))
	}
	k := newBatches(x, d.train, d.test, 5)
	for g := -1; g < 3; g++ {
		for i := range 30 {
			p := k.plan(g, i)
			said := map[int32]int{}
			var last *pair
			word, asked, questions := 0, map[int32]bool{}, 0
			for _, it := range p.items {
				switch {
				case it.kind != fusion.Text:
					last = it.from
				case !it.question:
					if _, twice := said[it.words[0]]; twice || questions > 0 {
						t.Fatalf("name %d twice, or behind a question", it.words[0])
					}
					said[it.words[0]] = last.digit
					if want := never; g < 0 && p.labels[word] != int32(last.digit) || g >= 0 && p.labels[word] != want {
						t.Errorf("group %d: label %d where %d is named", g, p.labels[word], last.digit)
					}
					word++
				default:
					questions++
					asked[it.words[0]] = true
					if p.labels[word] != int32(said[it.words[0]]) {
						t.Errorf("question %d: answer %d: want %d", it.words[0], p.labels[word], said[it.words[0]])
					}
					word++
				}
			}
			if len(asked) != len(said) || questions != len(said) || g >= 0 && len(said) != k.groups[g].items || len(said) < 8 || len(said) > 20 {
				t.Errorf("group %d: %d digits, %d questions for %d of them", g, len(said), questions, len(asked))
			}
		}
	}
}

// TestDraw: all states are drawn, and of what a model is given something is always there.
func TestDraw(t *testing.T) {
	for _, c := range []struct {
		spec string
		want int
	}{{"fusion", 15}, {"fusion:input=image", 12}, {"fusion:input=sound", 12}, {"fusion:form=match", 9}, {"fusion:corrupt=both-noise", 1}} {
		x := newFuser(t, c.spec)
		seen := map[[2]state]bool{}
		r := rand.New(rand.NewPCG(1, 1))
		for range 1000 {
			d := x.draw(r)
			seen[[2]state{d.image, d.sound}] = true
		}
		if len(seen) != c.want {
			t.Errorf("%s: %d conditions: want %d", c.spec, len(seen), c.want)
		}
		if seen[[2]state{missing, missing}] {
			t.Errorf("%s: image and sound missing", c.spec)
		}
	}
}

// TestScore: by group, over batches of unlike sizes (4, 4 and 1 with 4, 4 and 0 right are 8 of 9).
func TestScore(t *testing.T) {
	s := &score{groups: []group{{name: "a"}, {name: "b"}}, tallies: make([]tally, 2)}
	for _, c := range []struct {
		group int32
		rows  int
		right bool
	}{{0, 4, true}, {0, 4, true}, {1, 1, false}} {
		b := task.Batch{Rows: c.rows, Length: 4}
		var nats []float32
		var predicted []int32
		for range c.rows {
			b.Tokens = append(b.Tokens, c.group, 0, 0, 0)
			b.Labels = append(b.Labels, never, never, never, 3)
			guess := int32(3)
			if !c.right {
				guess = 4
			}
			nats, predicted = append(nats, 9, 9, 9, 0.5), append(predicted, 3, 3, 3, guess)
		}
		if err := s.Add(b, nats, predicted); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := fmt.Sprint(s.Values()), "[{accuracy 0.8888888888888888 9} {accuracy@a 1 8} {accuracy@b 0 1} {nats/query 0.5 9}]"; got != want {
		t.Errorf("%s: want %s", got, want)
	}
	if err := s.Add(task.Batch{Tokens: make([]int32, 3), Labels: make([]int32, 3), Rows: 1, Length: 3}, nil, nil); err == nil {
		t.Error("no losses: want an error")
	}
}

func TestOptions(t *testing.T) {
	for _, c := range []struct{ spec, err string }{
		{"form=sum", "option form=sum: want digit, match or recall"},
		{"fuse=middle", "option fuse=middle: want early, cross, late"},
		{"input=text", "option input=text: want both, image, sound"},
		{"corrupt=fire", "option corrupt=fire: want all, clean, image-noise"},
		{"corrupt=image-missing,input=image", "option corrupt=image-missing: want one that leaves enough to answer from"},
		{"corrupt=sound-missing,form=match", "option corrupt=sound-missing: want one that leaves enough"},
		{"test=bob", "option test=bob: want test, valid, george"},
		{"items=7", "option items=7: want an integer from 8 to 64"},
		{"patch=5", "option patch=5: want a divisor of 28"},
		{"hop=257", "option hop=257: want at most the window of a spectrum, 256"},
		{"heads=3", "option heads=3: want a divisor of dim, 64"},
		{"rate=0", "option rate=0: want a number above 0"},
		{"dropout=1", "option dropout=1: want 0 to below 1"},
		{"frames=mp3", "option frames=mp3: want mel, raw"},
		{"layers=0", "option layers=0: want an integer from 1"},
	} {
		if _, err := system.New("fusion:" + c.spec); err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v: want %q", c.spec, err, c.err)
		}
	}
	dir := write(t, files())
	for _, c := range []struct{ spec, mech, err string }{
		{"fusion", "full+full+full", "3 attentions: want 1"},
		{"fusion", "gla", "want one that can be trained under a mask of"},
		{"fusion:fuse=cross", "full+full+sliding", "mask is cross"},
		{"fusion:test=lucas", "full", "data set fusion-digits: 40 pairs to train on and 0 to test on: want the whole set"},
	} {
		if _, err := newFuser(t, c.spec).Fit(t.Context(), system.Fit{Data: dir, Mech: c.mech, Steps: 1}); err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s, %s: %v: want %q", c.spec, c.mech, err, c.err)
		}
	}
}
