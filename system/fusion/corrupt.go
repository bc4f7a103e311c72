package fusion

import (
	"math"
	"math/rand/v2"
	"slices"
)

// state is what happened to an image or a sound.
type state uint8

const (
	clean state = iota
	noise
	occluded
	missing
)

// condition is what happened to both.
type condition struct {
	name         string
	image, sound state
}

// conditions are those that models are tested under.
var conditions = []condition{
	{"clean", clean, clean},
	{"image-noise", noise, clean}, {"sound-noise", clean, noise}, {"both-noise", noise, noise},
	{"image-occluded", occluded, clean}, {"sound-occluded", clean, occluded}, {"both-occluded", occluded, occluded},
	{"image-missing", missing, clean}, {"sound-missing", clean, missing},
}

// How much is lost; part of the recipe.
const (
	imageNoise = 0.7 // standard deviation, of pixels from 0 to 1
	imageHole  = 14  // pixels of the sides of the square that is black
	soundNoise = 1.0 // standard deviation, of sounds of mean square 1: 0 dB
	soundHole  = 0.5 // of a sound, silent
)

// corruptImage changes pixels [side, side] in place.
func corruptImage(pixels []float32, s state, r *rand.Rand) {
	switch s {
	case noise:
		for i := range pixels {
			pixels[i] += float32(imageNoise * r.NormFloat64())
		}
	case occluded:
		y, x := r.IntN(side-imageHole+1), r.IntN(side-imageHole+1)
		for row := range imageHole {
			clear(pixels[(y+row)*side+x:][:imageHole])
		}
	}
}

// corruptSound changes samples in place.
func corruptSound(samples []float32, s state, r *rand.Rand) {
	switch s {
	case noise:
		for i := range samples {
			samples[i] += float32(soundNoise * r.NormFloat64())
		}
	case occluded:
		n := int(soundHole * float64(len(samples)))
		clear(samples[r.IntN(len(samples)-n+1):][:n])
	}
}

// shifted returns pixels as numbers from 0 to 1, moved by dx and dy.
func shifted(pixels []byte, dx, dy int) []float32 {
	out := make([]float32, side*side)
	for y := max(0, dy); y < min(side, side+dy); y++ {
		for x := max(0, dx); x < min(side, side+dx); x++ {
			out[y*side+x] = float32(pixels[(y-dy)*side+x-dx]) / 255
		}
	}
	return out
}

// faster returns samples played at a speed, pitch included, by linear interpolation.
func faster(samples []float32, speed float64) []float32 {
	if speed == 1 {
		return slices.Clone(samples)
	}
	out := make([]float32, max(1, int(float64(len(samples))/speed)))
	for i := range out {
		at := float64(i) * speed
		j := int(at)
		a, f := samples[min(j, len(samples)-1)], float32(at-math.Floor(at))
		out[i] = a + f*(samples[min(j+1, len(samples)-1)]-a)
	}
	return out
}
