package model

import (
	"math"
	"testing"

	"attnbench/attn"
	"attnbench/autograd"
)

func TestDecodeEqualsForward(t *testing.T) {
	const rows, length = 2, 23
	for _, c := range variants() {
		m, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		tokens, _ := batch(c, rows, length)
		tape := autograd.NewTape(attn.NewWorkspace())
		tape.NoGrad = true
		h, err := m.Hidden(tape, tokens, rows, length, nil)
		if err != nil {
			t.Fatal(err)
		}
		want := append([]float32(nil), tape.Value(m.logits(tape, h))...)
		for _, pieces := range [][]int{{23}, {1, 2, 3, 5, 8, 4}, {22, 1}, {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}} {
			s, err := m.NewState(rows)
			if err != nil {
				t.Fatal(err)
			}
			at := 0
			for _, n := range pieces {
				// The second row brings one token less in a padded first piece, and the missing one later.
				part := make([]int32, rows*n)
				for row := range rows {
					copy(part[row*n:(row+1)*n], tokens[row*length+at:])
				}
				got, err := m.Extend(tape, s, part, n, nil)
				if err != nil {
					t.Fatal(err)
				}
				at += n
				for row := range rows {
					for v := range c.Vocab {
						x, y := got[row*c.Vocab+v], want[(row*length+at-1)*c.Vocab+v]
						if !(math.Abs(float64(x-y)) < 2e-6+1e-4*math.Abs(float64(y))) {
							t.Fatalf("%s: pieces %v: logit after %d tokens is %v: want %v", name(c), pieces, at, x, y)
						}
					}
				}
			}
			if s.Bytes() <= 0 || s.ReadBytes() <= 0 || s.Len(1) != length {
				t.Errorf("%s: state of %d bytes, %d read, %d tokens", name(c), s.Bytes(), s.ReadBytes(), s.Len(1))
			}
		}
	}
}

// TestRaggedDecode decodes rows of unlike lengths, with garbage in the padding, and holds each against itself alone.
func TestRaggedDecode(t *testing.T) {
	for _, c := range variants() {
		m, _ := New(c)
		tape := autograd.NewTape(attn.NewWorkspace())
		tape.NoGrad = true
		tokens, _ := batch(c, 1, 20)
		s, err := m.NewState(2)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Extend(tape, s, append(append([]int32{}, tokens[:5]...), 1, 2, 3, 18, 18), 5, []int{5, 3}); err != nil {
			t.Fatal(err)
		}
		s.Reset(1)
		if err := s.Reorder([]int{0, 1}); err != nil {
			t.Fatal(err)
		}
		got, err := m.Extend(tape, s, append(append([]int32{}, tokens[5:9]...), tokens[0], tokens[1], 18, 18), 4, []int{4, 2})
		if err != nil {
			t.Fatal(err)
		}
		got = append([]float32(nil), got...)
		for row, n := range []int{9, 2} {
			tape.Reset()
			h, err := m.Hidden(tape, tokens[:n], 1, n, nil)
			if err != nil {
				t.Fatal(err)
			}
			want := tape.Value(m.logits(tape, h))[(n-1)*c.Vocab:]
			for v := range c.Vocab {
				if x, y := got[row*c.Vocab+v], want[v]; !(math.Abs(float64(x-y)) < 2e-6+1e-4*math.Abs(float64(y))) {
					t.Fatalf("%s: row %d: logit %v: want %v", name(c), row, x, y)
				}
			}
		}
	}
}

// TestPackedDocuments holds a row of two documents against each alone, and padding against its absence.
func TestPackedDocuments(t *testing.T) {
	for _, c := range variants() {
		m, _ := New(c)
		tape := autograd.NewTape(attn.NewWorkspace())
		tape.NoGrad = true
		tokens, _ := batch(c, 1, 17)
		segments := []attn.Segment{{Queries: 6, Keys: 6}, {Query0: 6, Queries: 7, Key0: 6, Keys: 7}}
		h, err := m.Hidden(tape, tokens, 1, 17, segments)
		if err != nil {
			t.Fatal(err)
		}
		got := append([]float32(nil), tape.Value(h)...)
		for _, g := range segments {
			tape.Reset()
			h, err := m.Hidden(tape, tokens[g.Query0:g.Query0+g.Queries], 1, g.Queries, nil)
			if err != nil {
				t.Fatal(err)
			}
			for i, want := range tape.Value(h) {
				if x := got[g.Query0*c.Dim+i]; !(math.Abs(float64(x-want)) < 1e-5) {
					t.Fatalf("%s: document at %d: element %d is %v: want %v", name(c), g.Query0, i, x, want)
				}
			}
		}
	}
}
