package task

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

func init() {
	Register("pathfinder", Pathfinder{Size: 32, Dashes: 14, Distractors: 5, Eval: 1000}, Pathfinder.New)
}

// Pathfinder holds the options of the question whether two marks lie on one path: a picture of dashed paths, pixel by pixel in rows from the top, whose last pixel is labelled with
// yes or no. Of two long paths of Dashes dashes, the two ends of one are marked by discs (yes), or an end of each (no); up to Distractors short ones, a third as long, lie about.
//
// Linsley et al. 2018 (arXiv:1805.08315); Tay et al. 2021, Long Range Arena (arXiv:2011.04006), whose numbers at 32 pixels these are: dashes of 2 pixels with a gap of 1, discs of radius
// 1.5, 256 grey levels. The generator is our own, in integers, so that a seed gives the same picture on every machine. In it the marks of the two answers have the same distribution of
// distances, paths keep clear of one another, and a picture whose answer its pixels do not settle (see connected) is drawn anew.
type Pathfinder struct {
	Size        int `opt:"size"`   // pixels a side; a row has its square
	Dashes      int `opt:"dashes"` // of a long path
	Distractors int `opt:"distractors"`
	Eval        int `opt:"eval"` // pictures of the test set
}

// The labels, after the grey levels.
const (
	pathNo = 256 + iota
	pathYes
	pathTokens
)

// Lengths are in parts of a pixel.
const (
	pixel     = 256
	dash      = 2 * pixel
	gap       = 1 * pixel
	clearance = 4 * pixel // between paths, and between parts of one
	border    = 2 * pixel
	disc      = 3 * pixel / 2 // radius of a mark
	headings  = 64
	turn      = 6 // between two dashes, at most, of the headings: 34 degrees; up to 73 where there is little room
)

// compass holds the directions of the headings, in 4096ths: integers, whatever the last bit of a cosine is on a machine.
var compass = func() (list [headings]point) {
	for i := range list {
		sin, cos := math.Sincos(2 * math.Pi * float64(i) / headings)
		list[i] = point{int(math.Round(4096 * cos)), int(math.Round(4096 * sin))}
	}
	return list
}()

type point struct{ x, y int }

func (p point) ahead(heading, by int) point {
	d := compass[heading]
	return point{p.x + d.x*by/4096, p.y + d.y*by/4096}
}

func (p point) squared(q point) int { return (p.x-q.x)*(p.x-q.x) + (p.y-q.y)*(p.y-q.y) }

// path is three points of each dash, in order: start, middle, end.
type path []point

func (p path) first() point { return p[0] }
func (p path) last() point  { return p[len(p)-1] }

// New returns the task with the options o.
func (o Pathfinder) New() (Task, error) {
	err := within(limit{"size", o.Size, 24, 256}, limit{"dashes", o.Dashes, 4, o.Size/2 - 2}, limit{"distractors", o.Distractors, 0, o.Size * o.Size / 128})
	if err != nil {
		return nil, err
	}
	return newGenerated(generated{
		info: Info{
			Name: Spell("pathfinder", o), Title: fmt.Sprintf("pathfinder, %dx%d pixels", o.Size, o.Size), Paper: "Linsley et al. 2018 (arXiv:1805.08315); LRA (arXiv:2011.04006)",
			Vocab: pathTokens,
		},
		answers: 2, rows: o.Eval, train: []setting{{o.Size * o.Size, o.row}},
	})
}

func (o Pathfinder) row(rng *rand.Rand, tokens, labels []int32) {
	yes := rng.IntN(2) == 1
	// The same distances for both answers: up to what a path reaches that winds.
	reach := min(o.Dashes*(dash+gap)*5/8, (o.Size*pixel-2*border)*3/4)
	apart := 6*pixel + rng.IntN(reach-6*pixel)
	for !o.picture(rng, yes, apart, tokens) || connected(tokens, o.Size) != yes {
	}
	labels[len(labels)-1] = pathNo
	if yes {
		labels[len(labels)-1] = pathYes
	}
}

// picture draws one with marks that are about the given distance apart. It fails where its first path leaves no room for a second.
func (o Pathfinder) picture(rng *rand.Rand, yes bool, apart int, pixels []int32) bool {
	near := func(p, q point) bool {
		const tolerance = pixel
		d := isqrt(p.squared(q))
		return d > apart-tolerance && d < apart+tolerance
	}
	const tries = 200
	a, ok := o.attempt(rng, tries, nil, o.Dashes, func(a path) bool { return !yes || near(a.first(), a.last()) })
	if !ok {
		return false
	}
	b, ok := o.attempt(rng, tries, a, o.Dashes, func(b path) bool { return yes || near(a.first(), b.first()) })
	if !ok {
		return false
	}
	marks := [2]point{a.first(), a.last()}
	if !yes {
		marks[1] = b.first()
	}
	paths := []path{a, b}
	taken := slices.Concat(a, b)
	for range o.Distractors {
		if c, ok := o.attempt(rng, 8, taken, max(1, o.Dashes/3), func(path) bool { return true }); ok {
			paths, taken = append(paths, c), append(taken, c...)
		}
	}
	clear(pixels)
	for _, p := range paths {
		for i := 0; i < len(p); i += 3 {
			o.line(pixels, p[i], p[i+2])
		}
	}
	for _, m := range marks {
		o.dot(pixels, m)
	}
	return true
}

// attempt returns a path that is wanted, of as many as it may try.
func (o Pathfinder) attempt(rng *rand.Rand, tries int, taken []point, n int, wanted func(path) bool) (path, bool) {
	for range tries {
		if p, ok := o.grow(rng, taken, n); ok && wanted(p) {
			return p, true
		}
	}
	return nil, false
}

// grow returns a path of n dashes that keeps clear of the points taken, of the border and of itself.
func (o Pathfinder) grow(rng *rand.Rand, taken []point, n int) (path, bool) {
	room := o.Size*pixel - 2*border
	at := point{border + rng.IntN(room), border + rng.IntN(room)}
	heading := rng.IntN(headings)
	var p path
	for range n {
		ok := false
		for try := 0; try < 16 && !ok; try++ {
			most := turn + try/2 // more where there is little room
			h := (heading + rng.IntN(2*most+1) - most + headings) % headings
			d := path{at, at.ahead(h, dash/2), at.ahead(h, dash)}
			if ok = o.fits(d, taken, p); ok {
				p, heading = append(p, d...), h
				at = at.ahead(h, dash+gap)
			}
		}
		if !ok {
			return nil, false
		}
	}
	return p, true
}

func (o Pathfinder) fits(d path, taken []point, own path) bool {
	own = own[:max(0, len(own)-6)] // the last two dashes are as near as they must be
	for _, p := range d {
		if p.x < border || p.y < border || p.x > o.Size*pixel-border || p.y > o.Size*pixel-border {
			return false
		}
		for _, list := range [][]point{taken, own} {
			for _, q := range list {
				if p.squared(q) < clearance*clearance {
					return false
				}
			}
		}
	}
	return true
}

// shade makes each pixel near a point or line as bright as grey says at the distance of its middle, unless it is brighter.
func (o Pathfinder) shade(pixels []int32, from, to point, grey func(distance int) int) {
	ab := point{to.x - from.x, to.y - from.y}
	length := max(1, ab.x*ab.x+ab.y*ab.y)
	const margin = 3 * pixel
	for y := max(0, (min(from.y, to.y)-margin)/pixel); y < o.Size && y*pixel < max(from.y, to.y)+margin; y++ {
		for x := max(0, (min(from.x, to.x)-margin)/pixel); x < o.Size && x*pixel < max(from.x, to.x)+margin; x++ {
			c := point{x*pixel + pixel/2, y*pixel + pixel/2}
			t := min(length, max(0, (c.x-from.x)*ab.x+(c.y-from.y)*ab.y))
			d := isqrt(c.squared(point{from.x + ab.x*t/length, from.y + ab.y*t/length}))
			i := y*o.Size + x
			pixels[i] = max(pixels[i], int32(max(0, grey(d))))
		}
	}
}

// Greys: a line fades over a pixel from its middle, a disc over one at its edge.
const (
	lineGrey = 191
	discGrey = 255
)

func (o Pathfinder) line(pixels []int32, from, to point) {
	o.shade(pixels, from, to, func(d int) int { return lineGrey * (pixel - d) / pixel })
}

func (o Pathfinder) dot(pixels []int32, at point) {
	o.shade(pixels, at, at, func(d int) int { return discGrey * min(pixel, disc+pixel/2-d) / pixel })
}

func isqrt(n int) int { return int(math.Sqrt(float64(n))) }

// connected reports whether one path holds all marks, from the pixels alone: those of a quarter of a line's grey and more are its own, two of them that are at most √5 pixels
// apart lie on one path, and those brighter than any line are marks.
func connected(pixels []int32, size int) bool {
	const dark = lineGrey / 4
	seen := make([]bool, len(pixels))
	marked := 0 // paths with a mark
	for start, grey := range pixels {
		if seen[start] || grey < dark {
			continue
		}
		found := false
		seen[start] = true
		for stack := []int{start}; len(stack) > 0; {
			i := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			found = found || pixels[i] > lineGrey
			for dy := -2; dy <= 2; dy++ {
				for dx := -2; dx <= 2; dx++ {
					x, y := i%size+dx, i/size+dy
					if dx*dx+dy*dy > 5 || x < 0 || y < 0 || x >= size || y >= size {
						continue
					}
					if j := y*size + x; !seen[j] && pixels[j] >= dark {
						seen[j] = true
						stack = append(stack, j)
					}
				}
			}
		}
		if found {
			marked++
		}
	}
	return marked == 1
}
