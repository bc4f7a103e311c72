package tile

import (
	"bytes"
	"strings"
	"testing"

	"attnbench/attn"
)

func testCache(t testing.TB, a Softmax, lengths ...int) *Cache {
	s := attn.Shape{Batch: len(lengths), Heads: 2, KVHeads: 2, KeyDim: 3, ValueDim: 1, Mask: attn.Causal}
	st, err := a.NewState("full", s)
	if err != nil {
		t.Fatal(err)
	}
	c := &attn.Call{Shape: s, Segments: attn.Lengths(lengths, lengths)}
	for _, n := range lengths {
		c.QueryLen, c.KeyLen = max(c.QueryLen, n), max(c.KeyLen, n)
	}
	fill := func(heads, dim int) attn.View {
		v := attn.NewView[float32](s.Batch, c.KeyLen, heads, dim)
		for i := range v.Data {
			v.Data[i] = float32(i%17) - 8
		}
		return v
	}
	c.Q, c.K, c.V, c.Out = fill(2, 3), fill(2, 3), fill(2, 1), fill(2, 1)
	info := attn.Info{Name: "full", Masks: attn.Causal, Inputs: attn.QKV()}
	if err := a.Extend(attn.NewWorkspace(), &info, st, c); err != nil {
		t.Fatal(err)
	}
	return st.(*Cache)
}

var caches = []Softmax{{Pattern: Dense{}}, {Pattern: Dense{}, Window: 4, Sinks: 1}}

func TestUnmarshalRejects(t *testing.T) {
	for _, a := range caches {
		s := testCache(t, a, 7, 2)
		good, err := s.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		other := testCache(t, Softmax{Pattern: Dense{}, Window: 9}, 7, 2)
		wide, _ := other.MarshalBinary()
		huge := bytes.Clone(good)
		for i := range 8 {
			huge[len(cacheMagic)+2+len("full")+8*8+i] = 0xff // length of row 0
		}
		long := bytes.Clone(good)
		long[len(cacheMagic)+2+len("full")+8*8]++
		for _, c := range []struct {
			name string
			data []byte
			want string
		}{
			{"nothing", nil, "unknown format"},
			{"another format", []byte("attnkv00 and so on"), "unknown format"},
			{"cut in the header", good[:30], "cut short"},
			{"cut in the tokens", good[:len(good)-1], ""},
			{"a byte more", append(bytes.Clone(good), 0), "bytes of tokens"},
			{"another window", wide, "window is 9"},
			{"a length beyond memory", huge, "length of row 0"},
		} {
			err := s.UnmarshalBinary(c.data)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "full: state: ") {
				t.Errorf("%s: %v: want %q", c.name, err, c.want)
			}
		}
		if a.Window == 0 {
			if err := s.UnmarshalBinary(long); err == nil {
				t.Error("a length of one token more: no error")
			}
		}
		again, _ := s.MarshalBinary()
		if !bytes.Equal(good, again) {
			t.Error("a state that could not be read changed")
		}
	}
}

func TestReorderAndReset(t *testing.T) {
	for _, a := range caches {
		s := testCache(t, a, 7, 2, 0)
		one := testCache(t, a, 7, 2, 0)
		if err := s.Reorder([]int{1, 0, 0}); err != nil {
			t.Fatal(err)
		}
		if s.Len(0) != 2 || s.Len(1) != 7 || s.Len(2) != 7 {
			t.Errorf("lengths %v", s.length)
		}
		if err := s.Reorder([]int{1, 0, 2}); err != nil {
			t.Fatal(err)
		}
		s.Reset(2)
		x, _ := s.MarshalBinary()
		y, _ := one.MarshalBinary()
		if !bytes.Equal(x, y) {
			t.Error("rows changed on the way")
		}
		for _, bad := range [][]int{{0, 1}, {0, 1, 3}, {0, -1, 2}} {
			if err := s.Reorder(bad); err == nil {
				t.Errorf("reorder %v: no error", bad)
			}
		}
		if z, _ := s.MarshalBinary(); !bytes.Equal(x, z) {
			t.Error("a refused reorder changed the state")
		}
	}
}

func FuzzUnmarshal(f *testing.F) {
	for _, a := range caches {
		b, err := testCache(f, a, 7, 2).MarshalBinary()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(b[:len(b)/2])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, a := range caches {
			s := testCache(t, a, 1, 3)
			before, _ := s.MarshalBinary()
			err := s.UnmarshalBinary(data)
			after, _ := s.MarshalBinary()
			if err != nil && !bytes.Equal(before, after) {
				t.Error("a state that could not be read changed")
			}
			if err == nil && !bytes.Equal(data, after) {
				t.Error("the state writes other bytes than it read")
			}
		}
	})
}
