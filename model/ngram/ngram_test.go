package ngram

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func fit(t interface{ Fatal(...any) }, order, vocab int, begin int32, docs ...[]int32) *Model {
	m, err := Fit(KneserNey, order, vocab, begin, docs...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// prob walks the context from nothing.
func prob(m *Model, context []int32, token int32) float64 {
	s := State(0)
	for _, c := range context {
		s, _ = m.Next(s, c)
	}
	_, p := m.Next(s, token)
	return p
}

// TestByHand: of "ababac" the pairs are ab and ba, twice, and ac, once, so that no discount can be estimated and those of the fallback hold. Left of a
// and of b stands one token each, left of c one.
func TestByHand(t *testing.T) {
	const a, b, c = 0, 1, 2
	m := fit(t, 2, 3, None, []int32{a, b, a, b, a, c})
	// Single tokens: each after one other: (1 - 0.5)/3 + γ/3 with γ = 3·0.5/3.
	one := 0.5/3 + 0.5/3
	gammaA := (1 + 0.5) / 3 // after a: b twice, c once
	gammaB := 1.0 / 2       // after b: a twice
	for _, x := range []struct {
		context []int32
		next    int32
		want    float64
	}{
		{nil, a, one}, {nil, b, one}, {nil, c, one},
		{[]int32{a}, b, (2-1)/3.0 + gammaA*one},
		{[]int32{a}, c, (1-0.5)/3.0 + gammaA*one},
		{[]int32{a}, a, gammaA * one},
		{[]int32{b}, a, (2-1)/2.0 + gammaB*one},
		{[]int32{c, b}, c, gammaB * one},
		{[]int32{c}, b, one}, // nothing was seen after c
	} {
		if got := prob(m, x.context, x.next); math.Abs(got-x.want) > 1e-15 {
			t.Errorf("p(%d | %v) = %v: want %v", x.next, x.context, got, x.want)
		}
	}
	if got := m.Grams(); !slices.Equal(got, []int{3, 3}) {
		t.Errorf("grams %v: want 3 and 3", got)
	}
	// The same with a start: <s> is 3, counts of what follows it are its own.
	m = fit(t, 2, 4, 3, []int32{3, a, b}, []int32{3, a, c})
	// Left of a: <s>; of b and c: a. After <s>: a twice.
	want := (2-1)/2.0 + 0.5*one
	if got := prob(m, []int32{3}, a); math.Abs(got-want) > 1e-15 {
		t.Errorf("p(a | <s>) = %v: want %v", got, want)
	}
	if p := prob(m, []int32{a}, 3); p != 0 {
		t.Errorf("<s> is predicted by %v", p)
	}
	nats, n := m.Nats([]int32{3, a})
	if math.Abs(nats+math.Log(want)) > 1e-15 || n != 1 {
		t.Errorf("%v nats over %d tokens: want %v over 1", nats, n, -math.Log(want))
	}
}

// TestWittenBellByHand: after "abab", a (twice) and b (twice) are the 2 kinds that follow the empty context, and
// after a came b twice, one kind.
func TestWittenBellByHand(t *testing.T) {
	m, err := Fit(WittenBell, 3, 256, None, Bytes([]byte("abab")))
	if err != nil {
		t.Fatal(err)
	}
	p0 := (2 + 2.0/256) / 6
	p1 := (2 + 1*p0) / 3
	for _, c := range []struct {
		context string
		next    int32
		want    float64
	}{
		{"", 'a', p0},
		{"", 'z', 2.0 / 256 / 6},
		{"a", 'b', p1},
		{"a", 'a', p0 / 3},
		{"ba", 'b', (1 + 1*p1) / 2},
		{"za", 'b', p1}, // "za" never seen
		{"bz", 'a', p0}, // nor "z"
		{"aba", 'a', p0 / 3 / 2},
	} {
		if got := prob(m, Bytes([]byte(c.context)), c.next); math.Abs(got-c.want) > 1e-15 {
			t.Errorf("p(%c | %q) = %v: want %v", c.next, c.context, got, c.want)
		}
	}
}

// TestDiscounts holds the three discounts against the formula worked by hand: Y = 10/(10+8) = 5/9.
func TestDiscounts(t *testing.T) {
	for _, c := range []struct {
		n    [5]int
		want [3]float64
	}{
		{[5]int{99, 10, 4, 2, 1}, [3]float64{1 - 2*5./9*4/10, 2 - 3*5./9*2/4, 3 - 4*5./9*1/2}},
		{[5]int{0, 10, 4, 2, 0}, [3]float64{1 - 2*5./9*4/10, 2 - 3*5./9*2/4, 3}},
		{[5]int{0, 0, 4, 2, 1}, fallback},
		{[5]int{0, 10, 4, 0, 1}, fallback},
		{[5]int{0, 1, 100, 200, 1}, [3]float64{1 - 200./201, 2 - 3./201*2, 3 - 4./201/200}},
		{[5]int{0, 10, 4, 2, 9}, fallback}, // the third would be below 0
	} {
		got := discounts(c.n)
		for i := range got {
			if math.Abs(got[i]-c.want[i]) > 1e-12 {
				t.Errorf("discounts of %v are %v: want %v", c.n, got, c.want)
				break
			}
		}
	}
}

// TestSumsToOne: every context, seen or not, of models of any order, before and after a file.
func TestSumsToOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		order, vocab := rapid.IntRange(1, MaxOrder).Draw(t, "order"), rapid.IntRange(2, 9).Draw(t, "vocab")
		begin := int32(rapid.IntRange(-1, 0).Draw(t, "begin"))
		token := rapid.Int32Range(begin+1, int32(vocab-1))
		var docs [][]int32
		for range rapid.IntRange(0, 4).Draw(t, "docs") {
			d := rapid.SliceOfN(token, 0, 60).Draw(t, "doc")
			if begin != None {
				d = append([]int32{begin}, d...)
			}
			docs = append(docs, d)
		}
		m, err := Fit(rapid.SampledFrom([]Smoothing{KneserNey, WittenBell}).Draw(t, "kind"), order, vocab, begin, docs...)
		if err != nil {
			t.Fatal(err)
		}
		context := rapid.SliceOfN(token, 0, order+2).Draw(t, "context")
		if len(docs) > 0 && rapid.Bool().Draw(t, "seen") {
			context = docs[0][:rapid.IntRange(0, len(docs[0])).Draw(t, "until")]
		}
		p := make([]float64, vocab)
		s := State(0)
		for _, c := range context {
			s, _ = m.Next(s, c)
		}
		m.Distribution(s, p)
		sum := 0.0
		for i, x := range p {
			sum += x
			if _, one := m.Next(s, int32(i)); math.Abs(one-x) > 1e-15 || x < 0 || x == 0 != (int32(i) == begin) {
				t.Fatalf("p(%d | %v) is %v in the distribution, %v alone", i, context, x, one)
			}
		}
		if math.Abs(sum-1) > 1e-12 {
			t.Fatalf("probabilities after %v sum to %v", context, sum)
		}
		var file bytes.Buffer
		words := names(vocab, begin)
		if err := m.WriteARPA(&file, words); err != nil {
			t.Fatal(err)
		}
		r, got, err := ReadARPA(&file)
		if err != nil || !slices.Equal(got, words) || r.begin != begin || !slices.Equal(r.Grams(), m.Grams()) {
			t.Fatalf("read: %v, words %v", err, got)
		}
		q := State(0)
		for _, c := range context {
			q, _ = r.Next(q, c)
		}
		for i, x := range p {
			if _, y := r.Next(q, int32(i)); math.Abs(y-x) > 2e-8*x {
				t.Fatalf("p(%d | %v) is %v after a file: want %v", i, context, y, x)
			}
		}
	})
}

func names(vocab int, begin int32) []string {
	var words []string
	for i := range vocab {
		if words = append(words, fmt.Sprintf("w%d", i)); int32(i) == begin {
			words[i] = "<s>"
		}
	}
	return words
}

func readText(t *testing.T) []string {
	text, err := os.ReadFile("testdata/opticks.txt")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimRight(string(text), "\n"), "\n")
}

// TestReference holds models of words and of bytes against testdata/reference.py, which computes them from the definition.
func TestReference(t *testing.T) {
	data, err := os.ReadFile("testdata/reference.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Unit      string
		Order     int
		Discounts [][3]float64
		Nats      []float64
	}
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	lines := readText(t)
	cut := len(lines) - 5
	for _, c := range cases {
		var docs [][]int32
		vocab, begin := 256, None
		if c.Unit == "words" {
			w := NewWords(lines[:cut], 1)
			for _, l := range lines {
				docs = append(docs, w.Sentence(l))
			}
			vocab, begin = len(w.List), Begin
		} else {
			for _, l := range lines {
				docs = append(docs, Bytes([]byte(l+"\n")))
			}
		}
		m := fit(t, c.Order, vocab, begin, docs[:cut]...)
		for k, want := range c.Discounts {
			for i := range want {
				if math.Abs(m.Discounts[k][i]-want[i]) > 1e-12 {
					t.Errorf("%s, order %d: discounts %v: want %v", c.Unit, c.Order, m.Discounts[k], want)
					break
				}
			}
		}
		i, total := 0, 0.0
		check := append(slices.Clone(docs[:3]), docs[cut:]...)
		for _, d := range check {
			s := State(0)
			for j, token := range d {
				var p float64
				if s, p = m.Next(s, token); j == 0 && token == begin {
					continue
				}
				if math.Abs(-math.Log(p)-c.Nats[i]) > 2e-9 {
					t.Fatalf("%s, order %d: value %d is %v: want %v", c.Unit, c.Order, i, -math.Log(p), c.Nats[i])
				}
				total += c.Nats[i]
				i++
			}
		}
		if i != len(c.Nats) {
			t.Errorf("%s, order %d: %d values: want %d", c.Unit, c.Order, i, len(c.Nats))
		}
		got, err := m.Perplexity(check...)
		if want := math.Exp(total / float64(i)); err != nil || math.Abs(got-want) > 1e-6*want {
			t.Errorf("%s, order %d: perplexity %v, %v: want %v", c.Unit, c.Order, got, err, want)
		}
	}
}

// TestToolkit holds a model against IRSTLM's of the same text, see testdata/README.md. That toolkit gives single tokens another
// distribution, so what is compared is what the longer grams add to it: discounted counts and weights.
func TestToolkit(t *testing.T) {
	f, err := os.Open("testdata/irstlm.arpa")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, words, err := ReadARPA(f)
	if err != nil {
		t.Fatal(err)
	}
	index := map[string]int32{}
	for i, w := range words {
		index[w] = int32(i)
	}
	start := index["<s>"] // it is a word like any other here: the toolkit puts three before and two behind the text
	doc := []int32{start, start, start}
	for _, w := range strings.Fields(strings.Join(readText(t), " ")) {
		doc = append(doc, index[w])
	}
	m := fit(t, 3, len(words), None, append(doc, start, start))
	if !slices.Equal(m.Grams(), r.Grams()) {
		t.Fatalf("grams %v: want %v", m.Grams(), r.Grams())
	}
	n := 0
	for s := range int32(len(m.word)) {
		if m.word[s] != r.word[s] || m.link[s] != r.link[s] {
			t.Fatalf("node %d differs", s)
		}
		if s == 0 || s >= m.last {
			continue
		}
		if math.Abs(m.weight[s]-r.weight[s]) > 1e-5 {
			t.Errorf("weight of %q is %v: want %v", words[m.word[s]], m.weight[s], r.weight[s])
		}
		for c := m.first[s]; c < m.first[s+1]; c++ {
			n++
			got := m.prob[c] - m.weight[s]*m.prob[m.link[c]]
			want := r.prob[c] - r.weight[s]*r.prob[r.link[c]]
			if math.Abs(got-want) > 1e-5 {
				t.Errorf("%q %q adds %v: want %v", words[m.word[s]], words[m.word[c]], got, want)
			}
		}
	}
	if n < 1000 {
		t.Errorf("%d grams compared: want more", n)
	}
}

func TestErrors(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{second(Fit(KneserNey, 0, 2, None)), "order 0: want 1 to 6"},
		{second(Fit(KneserNey, 7, 2, None)), "order 7"},
		{second(Fit(KneserNey, 2, 0, None)), "0 tokens"},
		{second(Fit(KneserNey, 2, 1, 0)), "1 tokens, begin 0"},
		{second(Fit(KneserNey, 2, 2, 2)), "begin 2"},
		{second(Fit(KneserNey, 2, 2, None, []int32{0}, []int32{1, 2})), "document 1: token 1 is 2: want 0 to 1"},
		{second(Fit(KneserNey, 2, 2, None, []int32{-1})), "token 0 is -1"},
		{second(Fit(KneserNey, 2, 2, 1, []int32{1, 0, 1})), "token 2 is the one that begins a sentence"},
		{second(fit(t, 1, 2, None).Perplexity()), "perplexity of no tokens"},
		{second(fit(t, 1, 2, None).Perplexity([]int32{5})), "document 0: token 0 is 5"},
		{fit(t, 1, 2, None).WriteARPA(nil, []string{"a"}), "1 words: want one a token, 2"},
		{fit(t, 1, 2, None).WriteARPA(nil, []string{"a", "b c"}), `word 1 is "b c"`},
		{fit(t, 1, 2, None).WriteARPA(nil, []string{"a", "a"}), `word 1 is "a"`},
		{fit(t, 1, 2, None).WriteARPA(nil, []string{"a", "<s>"}), "word 1 is <s>"},
		{fit(t, 1, 2, 0).WriteARPA(nil, []string{"a", "b"}), "want <s>"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("error %v: want %q in it", c.err, c.want)
		}
	}
}

func second[A any](_ A, err error) error { return err }
