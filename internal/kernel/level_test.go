package kernel

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// setLevel switches the level for a test.
func setLevel(t testing.TB, l int) {
	old := level
	level = l
	t.Cleanup(func() { level = old })
}

// eachLevel runs f as a subtest at every level, at the highest without AMX, too; one that this processor lacks is skipped by name.
func eachLevel(t *testing.T, f func(t *testing.T)) {
	for l, name := range levelNames {
		t.Run(name, func(t *testing.T) {
			if l > highest() {
				t.Skipf("this processor or build has no level %s", name)
			}
			setLevel(t, l)
			f(t)
		})
	}
	t.Run("no amx", func(t *testing.T) {
		if setLevel(t, highest()); !pairTiles() {
			t.Skip("this processor or build has no AMX")
		}
		setTiles(t, false)
		f(t)
	})
}

func TestChoose(t *testing.T) {
	for _, c := range []struct {
		name    string
		highest int
		want    int
		err     string
	}{
		{"", levelGeneric, levelGeneric, ""},
		{"", levelAVX512, levelAVX512, ""},
		{"generic", levelAVX2, levelGeneric, ""},
		{"avx2", levelAVX2, levelAVX2, ""},
		{"avx512", levelAVX2, levelGeneric, "ATTNBENCH_KERNEL=avx512: this processor or build has no such level: want one of generic, avx2"},
		{"avx2", levelGeneric, levelGeneric, "want one of generic"},
		{"AVX2", levelAVX2, levelGeneric, `ATTNBENCH_KERNEL=AVX2: unknown level: want one of generic, avx2`},
	} {
		got, err := choose(c.name, c.highest)
		if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("choose(%q, %d) = %d, %v; want %d, %q", c.name, c.highest, got, err, c.want, c.err)
		}
	}
	if Err() == nil && Level() != levelNames[level] {
		t.Errorf("Level() = %s", Level())
	}
	if l := Levels(); l[0] != "generic" || len(l) != highest()+1 {
		t.Errorf("Levels() = %v", l)
	}
}

// A guarded slice lies between words that no kernel may read (NaN, which would spread) or write.
type guarded struct {
	all  []float32
	x    []float32
	want []float32 // what all must hold outside x
}

const guard = 24

// guardedSlice returns n floats at a misaligned offset, ended by NaN.
func guardedSlice(r *rand.Rand, n int, fill func() float32) *guarded {
	start := guard + r.IntN(8)
	g := &guarded{all: make([]float32, start+n+guard)}
	for i := range g.all {
		g.all[i] = math.Float32frombits(0x7fc00000 + uint32(i))
	}
	g.x = g.all[start : start+n : start+n]
	for i := range g.x {
		g.x[i] = fill()
	}
	g.want = append([]float32(nil), g.all...)
	return g
}

// unhurt fails the test if a word outside x has changed, or inside at a place for which in is false.
func (g *guarded) unhurt(t *testing.T, in func(i int) bool) {
	t.Helper()
	start := len(g.all) - guard - len(g.x)
	for i, v := range g.all {
		j := i - start
		if j >= 0 && j < len(g.x) && (in == nil || in(j)) {
			continue
		}
		if math.Float32bits(v) != math.Float32bits(g.want[i]) {
			t.Fatalf("wrote outside the result, at %d of %d: %v", j, len(g.x), v)
		}
	}
}

func normal(r *rand.Rand) func() float32 {
	return func() float32 { return float32(r.NormFloat64()) }
}

func same(a, b float32) bool { return a == b || a != a && b != b }

// span is the number of floats that an [r, c] matrix needs from its first element on.
func (m Mat) span(r, c int) int {
	if r == 0 || c == 0 {
		return 0
	}
	return (r-1)*m.Row + (c-1)*m.Col + 1
}
