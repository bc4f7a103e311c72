package task

import (
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// walked answers by walking from the first mark over pixels that are not dark, and looking whether it comes to the other. Its marks are found apart from connected.
func walked(tokens []int32) int32 {
	size := isqrt(len(tokens))
	marks := marksOf(tokens)
	at := func(p point) int { return p.y/pixel*size + p.x/pixel }
	reached := map[int]bool{at(marks[0]): true}
	for grew := true; grew; {
		grew = false
		for i, grey := range tokens {
			if reached[i] || grey < 48 {
				continue
			}
			for _, d := range []int{-2*size - 1, -2 * size, -2*size + 1, -size - 2, -size - 1, -size, -size + 1, -size + 2, -2, -1, 1, 2, size - 2, size - 1, size, size + 1, size + 2, 2*size - 1, 2 * size, 2*size + 1} {
				if j := i + d; reached[j] && math.Abs(float64(i%size-j%size)) <= 2 {
					reached[i], grew = true, true
					break
				}
			}
		}
	}
	if reached[at(marks[1])] {
		return pathYes
	}
	return pathNo
}

// marksOf returns the middles of the two marks: of the pixels that are brighter than a line, those near the first and the others.
func marksOf(tokens []int32) (marks [2]point) {
	size := isqrt(len(tokens))
	var n [2]int
	first := point{-1, 0}
	for i, grey := range tokens {
		if grey <= 191 {
			continue
		}
		p := point{i%size*pixel + pixel/2, i/size*pixel + pixel/2}
		if first.x < 0 {
			first = p
		}
		k := 0
		if first.squared(p) > 16*pixel*pixel {
			k = 1
		}
		marks[k].x, marks[k].y = marks[k].x+p.x, marks[k].y+p.y
		n[k]++
	}
	for k := range marks {
		marks[k].x, marks[k].y = marks[k].x/n[k], marks[k].y/n[k]
	}
	return marks
}

func TestPathfinderSolver(t *testing.T) {
	solved(t, "pathfinder:eval=60", walked)
	solved(t, "pathfinder:size=64,dashes=20,distractors=10,eval=10", walked)
}

func TestPathfinderRows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := Pathfinder{Size: rapid.IntRange(24, 48).Draw(t, "size"), Distractors: rapid.IntRange(0, 4).Draw(t, "distractors"), Eval: 1}
		o.Dashes = rapid.IntRange(4, o.Size/2-2).Draw(t, "dashes")
		k, err := o.New()
		if err != nil {
			t.Fatal(err)
		}
		b := k.Train(rapid.Uint64().Draw(t, "seed"), rapid.IntRange(0, 1e6).Draw(t, "step"), 1)
		n := len(b.Tokens)
		if scored(b.Labels) != 1 || b.Labels[n-1] != walked(b.Tokens) || slices.Max(b.Tokens) != 255 || slices.Min(b.Tokens) != 0 {
			t.Fatalf("label %d, greys %d to %d: want %d, 0 to 255", b.Labels[n-1], slices.Min(b.Tokens), slices.Max(b.Tokens), walked(b.Tokens))
		}
	})
}

// TestPathfinderShortcuts: neither the distance of the marks nor the brightness of the picture tells the answer.
func TestPathfinderShortcuts(t *testing.T) {
	rows := 400
	if testing.Short() {
		rows = 150
	}
	b := mustNew(t, "pathfinder").Train(1, 0, rows)
	var distance, light [2][]float64
	for r := range b.Rows {
		tokens, labels := b.Row(r)
		yes := labels[len(labels)-1] - pathNo
		m := marksOf(tokens)
		sum := 0.0
		for _, g := range tokens {
			sum += float64(g)
		}
		distance[yes] = append(distance[yes], float64(isqrt(m[0].squared(m[1])))/pixel)
		light[yes] = append(light[yes], sum)
	}
	if n := float64(len(distance[1])); math.Abs(n-float64(rows)/2) > 4.5*math.Sqrt(float64(rows)/4) {
		t.Errorf("%v of %d pictures are yes: want half", n, rows)
	}
	for name, x := range map[string][2][]float64{"distance": distance, "brightness": light} {
		m0, v0 := meanVariance(x[0])
		m1, v1 := meanVariance(x[1])
		z := (m1 - m0) / math.Sqrt(v0/float64(len(x[0]))+v1/float64(len(x[1])))
		t.Logf("%s: no %.1f, yes %.1f: %.1f standard errors apart", name, m0, m1, z)
		if math.Abs(z) > 4 {
			t.Errorf("%s tells the answers apart: no %.2f, yes %.2f", name, m0, m1)
		}
	}
}

func meanVariance(x []float64) (mean, variance float64) {
	for _, v := range x {
		mean += v / float64(len(x))
	}
	for _, v := range x {
		variance += (v - mean) * (v - mean) / float64(len(x)-1)
	}
	return mean, variance
}

func TestPathfinderErrors(t *testing.T) {
	for _, c := range []struct{ options, want string }{
		{"size=23", "option size=23: want 24 to 256"}, {"dashes=17", "option dashes=17: want 4 to 14"}, {"distractors=9", "option distractors=9: want 0 to 8"},
	} {
		if _, err := New("pathfinder:" + c.options); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v: want %q", c.options, err, c.want)
		}
	}
}
