package media

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/dsp/fourier"
)

// Mel describes log-mel frames of a sound.
type Mel struct {
	Rate   int // samples a second
	Window int // samples of a frame, an even number
	Hop    int // samples from one frame to the next
	Bands  int // between 0 and Rate/2
}

func (m Mel) check() error {
	for _, c := range []struct {
		name     string
		got, min int
	}{{"rate", m.Rate, 1}, {"window", m.Window, 2}, {"hop", m.Hop, 1}, {"bands", m.Bands, 1}} {
		if c.got < c.min {
			return fmt.Errorf("mel: %s is %d: want at least %d", c.name, c.got, c.min)
		}
	}
	switch {
	case m.Window%2 != 0:
		return fmt.Errorf("mel: window is %d: want an even number", m.Window)
	case m.Bands > m.Window/2:
		return fmt.Errorf("mel: %d bands: want at most half the window, %d", m.Bands, m.Window/2)
	}
	return nil
}

// melFloor is the least energy whose logarithm is taken: silence is -23.
const melFloor = 1e-10

// Spectrum computes frames. It serves one goroutine.
type Spectrum struct {
	Mel
	fft     *fourier.FFT
	hann    []float64
	filters [][]float64 // of each band, from bin first[band]
	first   []int
	frame   []float64
	coeff   []complex128
	power   []float64
}

// NewSpectrum prepares the frames that m describes.
func NewSpectrum(m Mel) (*Spectrum, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	s := &Spectrum{Mel: m, fft: fourier.NewFFT(m.Window), frame: make([]float64, m.Window), coeff: make([]complex128, m.Window/2+1), power: make([]float64, m.Window/2+1)}
	for i := range m.Window { // periodic, not symmetric
		s.hann = append(s.hann, 0.5-0.5*math.Cos(2*math.Pi*float64(i)/float64(m.Window)))
	}
	for b := range m.Bands {
		first, f := m.filter(b)
		s.first, s.filters = append(s.first, first), append(s.filters, f)
	}
	return s, nil
}

// mel is O'Shaughnessy's scale (1987, Speech Communication), as HTK has it.
func mel(hertz float64) float64 { return 2595 * math.Log10(1+hertz/700) }
func hertz(m float64) float64   { return 700 * (math.Pow(10, m/2595) - 1) }
func (m Mel) edge(i int) float64 {
	return hertz(mel(float64(m.Rate)/2) * float64(i) / float64(m.Bands+1))
}
func (m Mel) bin(i int) float64 { return float64(i) * float64(m.Rate) / float64(m.Window) }
func triangle(f, lo, mid, hi float64) float64 {
	return max(0, min((f-lo)/(mid-lo), (hi-f)/(hi-mid)))
}

// filter returns the weights of the bins of band b, a triangle in hertz of height 1 between the middles of its neighbours, from the first bin that counts. A
// band so narrow that no bin lies in it takes the nearest one.
func (m Mel) filter(b int) (first int, weights []float64) {
	lo, mid, hi := m.edge(b), m.edge(b+1), m.edge(b+2)
	for i := range m.Window/2 + 1 {
		w := triangle(m.bin(i), lo, mid, hi)
		if w == 0 {
			continue
		}
		if weights == nil {
			first = i
		}
		weights = append(weights, w)
	}
	if weights == nil {
		return int(math.Round(mid * float64(m.Window) / float64(m.Rate))), []float64{1}
	}
	return first, weights
}

// Count returns the number of frames of n samples: at least one, and so many that all samples lie in some frame.
func (m Mel) Count(n int) int { return 1 + max(0, n-m.Window+m.Hop-1)/m.Hop }

// Frames appends to dst the frames of samples, [Count(len(samples)), bands]: of frame i
//
//	ln max(1e-10, Σ_k filter[b,k]·|Σ_j hann[j]·samples[i·hop+j]·e^(-2πi·jk/window)|²)
//
// What lies beyond the samples is 0.
func (s *Spectrum) Frames(dst, samples []float32) []float32 {
	for i := range s.Count(len(samples)) {
		for j, h := range s.hann {
			s.frame[j] = 0
			if at := i*s.Hop + j; at < len(samples) {
				s.frame[j] = h * float64(samples[at])
			}
		}
		for k, c := range s.fft.Coefficients(s.coeff, s.frame) {
			s.power[k] = real(c)*real(c) + imag(c)*imag(c)
		}
		for b, f := range s.filters {
			e := 0.0
			for k, w := range f {
				e += w * s.power[s.first[b]+k]
			}
			dst = append(dst, float32(math.Log(max(e, melFloor))))
		}
	}
	return dst
}
