package fusion

import (
	"math"
	"math/rand/v2"
	"runtime"
	"sync"

	"attnbench/media"
	"attnbench/model/fusion"
)

// item is a part of an example before it is rendered: an image, a sound, or words.
type item struct {
	kind     fusion.Kind
	from     *pair
	state    state
	seed     uint64 // of what is random in it
	vary     bool   // move the image, change the speed of the sound: training
	words    []int32
	question bool
}

// How training varies; part of the recipe.
const (
	moves  = 2    // pixels, at most, each way
	speeds = 0.15 // share, at most, by which a sound is slower or faster
)

// renderer turns items into what a model takes.
type renderer struct {
	patch int       // pixels of the sides of a patch
	mel   media.Mel // of frames; no bands for frames of samples
	free  sync.Pool // of *media.Spectrum
}

func newRenderer(patch, hop int, raw bool) (*renderer, error) {
	r := &renderer{patch: patch, mel: media.Mel{Rate: rate, Window: hop, Hop: hop}}
	if !raw {
		r.mel.Window, r.mel.Bands = melWindow, melBands
		if _, err := media.NewSpectrum(r.mel); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// Frames of spectra: 32 ms.
const (
	melWindow = 256
	melBands  = 32
)

func (r *renderer) frameWidth() int {
	if r.mel.Bands > 0 {
		return r.mel.Bands
	}
	return r.mel.Window
}

// all renders examples, several at a time. Which goroutine renders which changes nothing.
func (r *renderer) all(examples [][]item, out []fusion.Example) {
	var wg sync.WaitGroup
	workers := min(runtime.GOMAXPROCS(0), len(examples))
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(examples); i += workers {
				out[i].Spans = out[i].Spans[:0]
				for j := range examples[i] {
					if s, ok := r.one(&examples[i][j]); ok {
						out[i].Spans = append(out[i].Spans, s)
					}
				}
			}
		})
	}
	wg.Wait()
}

// one renders an item; one that is missing is not there.
func (r *renderer) one(x *item) (s fusion.Span, ok bool) {
	s = fusion.Span{Kind: x.kind, Words: x.words, Question: x.question}
	if x.kind == fusion.Text {
		return s, true
	}
	if x.state == missing {
		return s, false
	}
	random := rand.New(rand.NewPCG(x.seed, uint64(x.kind)))
	if x.kind == fusion.Image {
		s.Data = r.image(x, random)
	} else {
		s.Data = r.sound(x, random)
	}
	return s, true
}

// image returns patches [patches, patch·patch], from left to right and from the top down.
func (r *renderer) image(x *item, random *rand.Rand) []float32 {
	dx, dy := 0, 0
	if x.vary {
		dx, dy = random.IntN(2*moves+1)-moves, random.IntN(2*moves+1)-moves
	}
	pixels := shifted(x.from.pixels, dx, dy)
	corruptImage(pixels, x.state, random)
	out := make([]float32, 0, side*side)
	for y := 0; y < side; y += r.patch {
		for at := 0; at < side; at += r.patch {
			for row := range r.patch {
				out = append(out, pixels[(y+row)*side+at:][:r.patch]...)
			}
		}
	}
	for i := range out { // mean and deviation of MNIST
		out[i] = (out[i] - 0.1307) / 0.3081
	}
	return out
}

// sound returns frames [frames, width].
func (r *renderer) sound(x *item, random *rand.Rand) []float32 {
	speed := 1.0
	if x.vary {
		speed += speeds * (2*random.Float64() - 1)
	}
	samples := faster(x.from.samples, speed)
	corruptSound(samples, x.state, random)
	if r.mel.Bands == 0 {
		for len(samples)%r.mel.Hop != 0 {
			samples = append(samples, 0)
		}
		return samples
	}
	s, _ := r.free.Get().(*media.Spectrum)
	if s == nil {
		s, _ = media.NewSpectrum(r.mel) // whose description was checked
	}
	frames := s.Frames(nil, samples)
	r.free.Put(s)
	standardise(frames)
	return frames
}

// standardise shifts and scales x to mean 0 and deviation 1.
func standardise(x []float32) {
	sum, square := 0.0, 0.0
	for _, v := range x {
		sum += float64(v)
		square += float64(v) * float64(v)
	}
	n := float64(len(x))
	mean := sum / n
	scale := 1 / math.Sqrt(max(square/n-mean*mean, 1e-6))
	for i := range x {
		x[i] = float32((float64(x[i]) - mean) * scale)
	}
}
