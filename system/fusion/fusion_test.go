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
		{"form=digit,input=image", "linear"},
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

// TestInit: a model begins where one of another form ended, and says so in its checkpoints.
func TestInit(t *testing.T) {
	dir, first := write(t, files()), filepath.Join(t.TempDir(), "first.ckpt")
	if _, err := newFuser(t, "fusion:form=digit"+small).Fit(t.Context(), system.Fit{Data: dir, Mech: "full", Seed: 1, Steps: 3, Checkpoint: first}); err != nil {
		t.Fatal(err)
	}
	x := newFuser(t, "fusion:form=recall,items=8,rate=1e-30"+small+",init="+first) // so low a rate that nothing moves
	second := filepath.Join(t.TempDir(), "second.ckpt")
	fit := system.Fit{Data: dir, Mech: "full", Seed: 2, Steps: 1, Checkpoint: second}
	if _, err := x.Fit(t.Context(), fit); err != nil {
		t.Fatal(err)
	}
	a, err := train.ReadCheckpoint(first)
	if err != nil {
		t.Fatal(err)
	}
	b, err := train.ReadCheckpoint(second)
	if err != nil {
		t.Fatal(err)
	}
	m, _, err := x.model("full", 1<<10, 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range m.Params() {
		was, err1 := a.Tensor(p.Name, p.Shape)
		is, err2 := b.Tensor(p.Name, p.Shape)
		if err1 != nil || err2 != nil || !slices.Equal(was, is) {
			t.Errorf("%s: not what it was (%v, %v)", p.Name, err1, err2)
		}
	}
	for _, c := range []struct{ spec, err string }{
		{"fusion:form=match" + small + ",init=" + first + "x", "option init: "},
		{"fusion:form=match,init=" + first, "option init: " + first + ": tensor "},
	} {
		if _, err := newFuser(t, c.spec).Fit(t.Context(), system.Fit{Data: dir, Mech: "full", Steps: 1}); err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v: want %q", c.spec, err, c.err)
		}
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
