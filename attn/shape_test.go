package attn

import (
	"math"
	"reflect"
	"strings"
	"testing"
)

func good() Shape {
	return Shape{Batch: 2, QueryLen: 3, KeyLen: 5, Heads: 6, KVHeads: 2, KeyDim: 4, ValueDim: 3, Mask: Causal}
}

func TestShapeCheck(t *testing.T) {
	for _, c := range []struct {
		change func(s *Shape)
		say    string // "" when good
	}{
		{func(s *Shape) {}, ""},
		{func(s *Shape) { s.Batch, s.QueryLen, s.KeyLen = 0, 0, 0 }, ""},
		{func(s *Shape) { s.Layer, s.Layers = 3, 4 }, ""},
		{func(s *Shape) { s.Heads, s.KVHeads = 12, 4 }, ""},
		{func(s *Shape) { s.Heads, s.KVHeads = 6, 4 }, "6 heads over 4 key/value heads: want a multiple"},
		{func(s *Shape) { s.Heads = 0 }, "heads is 0: want at least 1"},
		{func(s *Shape) { s.KVHeads = -1 }, "key/value heads is -1"},
		{func(s *Shape) { s.Batch = -1 }, "batch is -1: want at least 0"},
		{func(s *Shape) { s.QueryLen = -1 }, "query length is -1"},
		{func(s *Shape) { s.KeyLen = -1 }, "key length is -1"},
		{func(s *Shape) { s.KeyDim = 0 }, "key dim is 0"},
		{func(s *Shape) { s.ValueDim = 0 }, "value dim is 0"},
		{func(s *Shape) { s.MaxLen = -1 }, "max length is -1"},
		{func(s *Shape) { s.Layer = -1 }, "layer is -1"},
		{func(s *Shape) { s.Layer, s.Layers = 4, 4 }, "layer is 4: want less than layers, 4"},
		{func(s *Shape) { s.Mask = 0 }, `mask is "none": want exactly one`},
		{func(s *Shape) { s.Mask = Causal | Cross }, `mask is "causal+cross"`},
		{func(s *Shape) { s.Mask = 8 }, "want exactly one"},
	} {
		s := good()
		c.change(&s)
		err := s.Check()
		if c.say == "" && err != nil || c.say != "" && (err == nil || !strings.Contains(err.Error(), c.say)) {
			t.Errorf("%+v: got %v, want %q", s, err, c.say)
		}
	}
}

// Query heads lie in runs: tiling them would give 0 1 0 1 0 1.
func TestKVHead(t *testing.T) {
	for _, c := range []struct {
		heads, kv int
		want      []int
	}{
		{6, 2, []int{0, 0, 0, 1, 1, 1}},
		{12, 4, []int{0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3}},
		{3, 3, []int{0, 1, 2}},
		{3, 1, []int{0, 0, 0}},
	} {
		for h, want := range c.want {
			if got := (Shape{Heads: c.heads, KVHeads: c.kv}).KVHead(h); got != want {
				t.Errorf("%d heads over %d: head %d reads %d, want %d", c.heads, c.kv, h, got, want)
			}
		}
	}
}

// Pairs counts what Sees admits.
func TestPairs(t *testing.T) {
	for _, m := range []Mask{Causal, Bidirectional, Cross} {
		for q := range 7 {
			for k := range 7 {
				s := Shape{QueryLen: q, KeyLen: k, Mask: m}
				h := Head64{Call: &Call64{Shape: s}, Segment: Segment{Queries: q, Keys: k}}
				n := int64(0)
				for i := range q {
					for j := range k {
						if h.Sees(i, j) {
							n++
						}
					}
				}
				if s.Pairs() != n {
					t.Errorf("%v, %d queries, %d keys: %d pairs, want %d", m, q, k, s.Pairs(), n)
				}
			}
		}
	}
}

// Causal means bottom-right: the last query sees the last key.
func TestSees(t *testing.T) {
	for _, c := range []struct {
		queries, keys int
		want          []int // keys that each query sees
	}{
		{2, 5, []int{4, 5}}, {5, 2, []int{0, 0, 0, 1, 2}}, {3, 3, []int{1, 2, 3}}, {1, 5, []int{5}}, {2, 0, []int{0, 0}},
	} {
		h := Head64{Call: &Call64{Shape: Shape{Mask: Causal}}, Segment: Segment{Queries: c.queries, Keys: c.keys}}
		for i, want := range c.want {
			n := 0
			for j := range c.keys {
				if h.Sees(i, j) {
					if j != n {
						t.Errorf("query %d sees key %d but not %d", i, j, n)
					}
					n++
				}
			}
			if n != want {
				t.Errorf("%d queries, %d keys: query %d sees %d, want %d", c.queries, c.keys, i, n, want)
			}
		}
	}
}

func TestLengthsAndDocuments(t *testing.T) {
	got := Lengths([]int{3, 0}, []int{5, 2})
	if want := []Segment{{Row: 0, Queries: 3, Keys: 5}, {Row: 1, Keys: 2}}; !reflect.DeepEqual(got, want) {
		t.Errorf("lengths: %+v", got)
	}
	got = Documents(10, [][]int{{0, 4, 9}, {0}, {}})
	want := []Segment{
		{Row: 0, Queries: 4, Keys: 4}, {Row: 0, Query0: 4, Queries: 5, Key0: 4, Keys: 5}, {Row: 0, Query0: 9, Queries: 1, Key0: 9, Keys: 1},
		{Row: 1, Queries: 10, Keys: 10},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("documents: %+v", got)
	}
}

func TestSegmentsCheck(t *testing.T) {
	for _, c := range []struct {
		segs []Segment
		say  string
	}{
		{nil, ""},
		{[]Segment{}, ""},
		{[]Segment{{Row: 0, Queries: 3, Keys: 5}, {Row: 1}}, ""},
		{[]Segment{{Row: 1, Query0: 3, Key0: 5}}, ""},
		{[]Segment{{Row: 0, Queries: 1, Keys: 5}, {Row: 0, Query0: 1, Queries: 2, Key0: 0, Keys: 5}}, ""},
		{[]Segment{{Row: 2}}, "segment 0: row is 2: want 0 to 1"},
		{[]Segment{{Row: -1}}, "row is -1"},
		{[]Segment{{Queries: 4}}, "queries 0+4: want them within 3"},
		{[]Segment{{Query0: -1, Queries: 1}}, "queries -1+1"},
		{[]Segment{{Queries: -1}}, "queries 0+-1"},
		{[]Segment{{Key0: 1, Keys: 5}}, "keys 1+5: want them within 5"},
		{[]Segment{{Key0: -2, Keys: 1}}, "keys -2+1"},
		{[]Segment{{Keys: -1}}, "keys 0+-1"},
		{[]Segment{{Query0: math.MaxInt, Queries: math.MaxInt}}, "want them within 3"},
		{[]Segment{{Key0: math.MaxInt, Keys: math.MaxInt}}, "want them within 5"},
		{[]Segment{{Row: 1}, {Row: 0}}, "segment 1: want segments sorted"},
		{[]Segment{{Queries: 2}, {Query0: 1, Queries: 1}}, "segment 1: want segments sorted by row and query, without overlap"},
	} {
		call := Call64{Shape: good(), Segments: c.segs}
		err := call.checkSegments()
		if c.say == "" && err != nil || c.say != "" && (err == nil || !strings.Contains(err.Error(), c.say)) {
			t.Errorf("%+v: got %v, want %q", c.segs, err, c.say)
		}
	}
}

func TestZeroPadding(t *testing.T) {
	for _, segs := range [][]Segment{
		nil, {}, {{Row: 0, Queries: 3}, {Row: 1, Queries: 3}}, {{Row: 1, Query0: 1, Queries: 1}}, {{Row: 0, Query0: 2, Queries: 1}},
		{{Row: 0, Queries: 1}, {Row: 0, Query0: 2, Queries: 1}, {Row: 1, Query0: 0, Queries: 0}}, {{Row: 0, Query0: 3}, {Row: 1, Query0: 2, Queries: 1}},
	} {
		c := Call64{Shape: good(), Segments: segs, Out: NewView[float64](2, 3, 6, 3)}
		for i := range c.Out.Data {
			c.Out.Data[i] = 7
		}
		c.ZeroPadding()
		covered := map[[2]int]bool{}
		for i := range c.NumSegments() {
			g := c.Segment(i)
			for q := range g.Queries {
				covered[[2]int{g.Row, g.Query0 + q}] = true
			}
		}
		for b := range 2 {
			for q := range 3 {
				for h := range 6 {
					for _, x := range c.Out.Row(b, q, h) {
						if want := 7.0; covered[[2]int{b, q}] && x != want || !covered[[2]int{b, q}] && x != 0 {
							t.Fatalf("%+v: row %d, query %d, head %d holds %g", segs, b, q, h, x)
						}
					}
				}
			}
		}
	}
}

func TestSoftmax(t *testing.T) {
	inf := math.Inf(-1)
	for _, c := range []struct{ in, want []float64 }{
		{nil, nil},
		{[]float64{3}, []float64{1}},
		{[]float64{inf, inf}, []float64{0, 0}},
		{[]float64{inf, 5, inf}, []float64{0, 1, 0}},
		{[]float64{0, 0, 0, 0}, []float64{0.25, 0.25, 0.25, 0.25}},
		{[]float64{1e4, 1e4 - 1}, []float64{1 / (1 + math.Exp(-1)), 1 / (1 + math.E)}},
		{[]float64{-1e300, -1e300}, []float64{0.5, 0.5}},
		{[]float64{1e300, -1e300}, []float64{1, 0}},
	} {
		p := append([]float64(nil), c.in...)
		Softmax(p)
		for i, x := range p {
			if math.Abs(x-c.want[i]) > 1e-15 || math.IsNaN(x) {
				t.Errorf("%v: got %v, want %v", c.in, p, c.want)
			}
		}
	}
}

// Cases of real users: positions and pairings that were mixed up.
func TestRope(t *testing.T) {
	near := func(x, y float32) bool { return math.Abs(float64(x-y)) < 2e-6 }
	turn := func(r Rope, x []float32, pos int) []float32 {
		n := r.Pairs(len(x))
		cos, sin, y := make([]float32, n), make([]float32, n), make([]float32, len(x))
		r.Angles(cos, sin, pos, len(x))
		r.Turn(y, x, cos, sin)
		return y
	}
	for _, c := range []struct {
		what string
		rope Rope
		x    []float32
		pos  int
		want []float32
	}{
		{"one pair, position 3", Rope{}, []float32{1, 0}, 3, []float32{-0.989992, 0.141120}},
		{"neighbours", Rope{Pairing: Neighbours}, []float32{1, 2, 3, 4}, 1, []float32{-1.142640, 1.922076, 2.959851, 4.029800}},
		{"halves", Rope{}, []float32{1, 2, 3, 4}, 1, []float32{-1.984111, 1.959901, 2.462378, 4.019800}},
		{"position 0", Rope{}, []float32{1, 2, 3, 4}, 0, []float32{1, 2, 3, 4}},
		{"an odd last element stays", Rope{}, []float32{1, 0, 9}, 3, []float32{-0.989992, 0.141120, 9}},
		{"two dims of four", Rope{Dims: 2}, []float32{1, 0, 3, 4}, 3, []float32{-0.989992, 0.141120, 3, 4}},
		{"more dims than there are", Rope{Dims: 64}, []float32{1, 0}, 3, []float32{-0.989992, 0.141120}},
		{"another base", Rope{Base: 100}, []float32{0, 1, 0, 0}, 1, []float32{0, 0.995004, 0, 0.099833}},
	} {
		got := turn(c.rope, c.x, c.pos)
		for i, x := range got {
			if !near(x, c.want[i]) {
				t.Errorf("%s: got %v, want %v", c.what, got, c.want)
				break
			}
		}
	}
	// Asking for other offsets in between changes nothing, and in place is the same.
	r := Rope{Pairing: Neighbours}
	a := turn(r, []float32{1, 2, 3, 4}, 3)
	turn(r, []float32{1, 2, 3, 4}, 6)
	b := []float32{1, 2, 3, 4}
	cos, sin := make([]float32, 2), make([]float32, 2)
	r.Angles(cos, sin, 3, 4)
	r.Turn(b, b, cos, sin)
	if !reflect.DeepEqual(a, b) {
		t.Errorf("in place %v, else %v", b, a)
	}
	// The product of a turned query and key depends on their distance alone; turning back undoes it.
	for _, pairing := range []Pairing{Halves, Neighbours} {
		r := Rope{Pairing: pairing}
		q, k := []float32{1, -2, 0.5, 3, 1, 1}, []float32{2, 1, -1, 0.25, 0, 1}
		dot := func(i, j int) (s float32) {
			x, y := turn(r, q, i), turn(r, k, j)
			for n := range x {
				s += x[n] * y[n]
			}
			return s
		}
		if x, y := dot(7, 3), dot(1004, 1000); math.Abs(float64(x-y)) > 1e-3 {
			t.Errorf("pairing %d: %g at distance 4, %g further on", pairing, x, y)
		}
		cos, sin := make([]float32, 3), make([]float32, 3)
		r.Angles(cos, sin, 11, 6)
		x := append([]float32(nil), q...)
		r.Turn(x, x, cos, sin)
		for i := range sin {
			sin[i] = -sin[i]
		}
		r.Turn(x, x, cos, sin)
		for i := range x {
			if !near(x[i], q[i]) {
				t.Errorf("pairing %d: turned back %v, want %v", pairing, x, q)
			}
		}
	}
}
