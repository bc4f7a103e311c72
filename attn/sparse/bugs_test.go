package sparse

import (
	"slices"
	"strings"
	"testing"

	"attnbench/attn"
	"attnbench/attn/tile"
)

// TestDrawIsUniform counts how often each block is drawn: 16 blocks, 3 random ones, query block 2.
func TestDrawIsUniform(t *testing.T) {
	for _, c := range []struct {
		mask     attn.Mask
		a        int
		from, to int // the candidates
		gap      []int
	}{
		{attn.Bidirectional, 2, 4, 15, nil},
		{attn.Bidirectional, 13, 1, 12, nil},
		{attn.Bidirectional, 7, 1, 15, []int{6, 7, 8}},
		{attn.Causal, 13, 1, 12, nil},
	} {
		var times [16]int
		for seed := range uint64(125) {
			for head := range 8 {
				var buf [mostRandom]int
				o := BigBird{Block: 64, Global: 1, Window: 3, Random: 3, Seed: seed}
				n := 16
				if c.mask == attn.Causal {
					n = c.a + 1
				}
				r := o.draw(&buf, c.mask, 0, head, c.a, n)
				if len(r) != 3 || !slices.IsSorted(r) || r[0] == r[1] || r[1] == r[2] {
					t.Fatalf("drawn %v: want 3 different blocks", r)
				}
				for _, x := range r {
					times[x]++
				}
			}
		}
		p := 3 / float64(c.to-c.from-len(c.gap))
		for b, n := range times {
			allowed := b >= c.from && b < c.to && !slices.Contains(c.gap, b)
			// 4 standard deviations
			if want := 1000 * p; allowed && (float64(n)-want)*(float64(n)-want) > 16*want*(1-p) || !allowed && n > 0 {
				t.Errorf("%v, query block %d: block %d drawn %d times", c.mask, c.a, b, n)
			}
		}
	}
}

// TestDrawIsFixed holds a layout against the one that an earlier version drew: results depend on it.
func TestDrawIsFixed(t *testing.T) {
	var buf [mostRandom]int
	o := BigBird{Block: 64, Global: 1, Window: 3, Random: 3, Seed: 7}
	if got, want := o.draw(&buf, attn.Causal, 2, 3, 40, 41), []int{3, 9, 33}; !slices.Equal(got, want) {
		t.Errorf("drawn %v: want %v", got, want)
	}
}

// TestCausalLayoutIgnoresLength asks for the keys of one tile at several lengths.
func TestCausalLayoutIgnoresLength(t *testing.T) {
	for _, spec := range specs {
		m, _ := build(t, spec)
		var p tile.Pattern
		switch m := m.(type) {
		case blockSparse:
			p = m.Pattern
		case bigBird:
			p = m.Pattern
		}
		seen := func(keys int) (s []uint32) {
			x := tile.Tile{Mask: attn.Causal, Layer: 1, Head: 3, First: 96, Rows: 32, Keys: keys}
			s = make([]uint32, 128)
			for r := p.Next(x, 0); r.Lo < r.Hi; r = p.Next(x, r.Hi) {
				for j := r.Lo; j < r.Hi; j++ {
					s[j] = p.Sees(x, j)
					if r.Full && s[j] != tile.Bits(0, 32) {
						t.Errorf("%s: key %d lies in a full run, but is seen by %032b", spec, j, s[j])
					}
				}
			}
			return s
		}
		for _, n := range []int{129, 500, 5000} {
			if !slices.Equal(seen(128), seen(n)) {
				t.Errorf("%s: other keys among %d than among 128", spec, n)
			}
		}
	}
}

func TestOptions(t *testing.T) {
	for spec, want := range map[string]string{
		"blocksparse:block=0": "block=0", "blocksparse:local=0": "local=0", "blocksparse:stride=-1": "stride=-1",
		"bigbird:block=0": "block=0", "bigbird:global=-1": "global=-1", "bigbird:window=2": "window=2", "bigbird:random=65": "random=65",
		"bigbird:seed=-1": "seed=-1",
	} {
		if _, err := attn.New(spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v: want %q", spec, err, want)
		}
	}
}
