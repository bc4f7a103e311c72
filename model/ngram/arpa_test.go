package ngram

import (
	"bytes"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
)

const small = `a line before

\data\
ngram 1=4
ngram  2 = 2

\1-grams:
-99	<s>	-0.30103
-0.30103	a	-0.1
-0.60206 b
-12.5	</s>

\2-grams:
-0.1 <s> a
-0.2	b	a

\end\
`

func TestReadARPA(t *testing.T) {
	m, words, err := ReadARPA(strings.NewReader(strings.ReplaceAll(small, "\n", "\r\n")))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(words, []string{"<s>", "a", "b", "</s>"}) || m.Begin() != 0 || m.Order() != 2 || !slices.Equal(m.Grams(), []int{4, 2}) {
		t.Errorf("words %q, begin %d, order %d, grams %v", words, m.Begin(), m.Order(), m.Grams())
	}
	for _, c := range []struct {
		context []int32
		next    int32
		want    float64 // logarithm
	}{
		{nil, 1, -0.30103}, {[]int32{0}, 1, -0.1}, {[]int32{0}, 2, -0.30103 - 0.60206},
		{[]int32{1}, 2, -0.1 - 0.60206}, {[]int32{1, 2}, 1, -0.2}, {[]int32{2}, 3, -12.5}, {[]int32{3}, 1, -0.30103},
	} {
		if got := math.Log10(prob(m, c.context, c.next)); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("log p(%d | %v) = %v: want %v", c.next, c.context, got, c.want)
		}
	}
}

// TestShortLink: where a pruned file lacks the end of a gram, the next shorter one is gone on from, and the weight of what is missing is 1.
func TestShortLink(t *testing.T) {
	m, _, err := ReadARPA(strings.NewReader("\\data\\\nngram 1=2\nngram 2=1\nngram 3=1\n\\1-grams:\n-0.3 a -0.1\n-0.3 b -0.2\n\\2-grams:\n-0.1 a b -0.4\n\\3-grams:\n-0.01 a b b\n\\end\\\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := math.Log10(prob(m, []int32{0, 1, 1}, 0)), -0.2-0.3; math.Abs(got-want) > 1e-12 { // b b has no entry: of context b
		t.Errorf("log p(a | a b b) = %v: want %v", got, want)
	}
}

// Words may hold any characters but the blanks of ASCII: corpora have words with no-break and ideographic spaces, quotes and backslashes.
func TestOddWords(t *testing.T) {
	words := []string{"<s>", "\u00a0", "a\u00a0b", "c\u3000", "\u2028", "\u0085", "\\end\\", "\\2-grams:", "ngram", "-0.5", "=", "é", "e\u0301", "\xff", "\ufeff", "𝔘"}
	docs := [][]int32{{0}, {0}}
	for i := range words[1:] {
		docs[0], docs[1] = append(docs[0], int32(1+i)), append(docs[1], int32(len(words)-1-i))
	}
	m, err := Fit(WittenBell, 3, len(words), 0, docs...)
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	if err := m.WriteARPA(&file, words); err != nil {
		t.Fatal(err)
	}
	r, again, err := ReadARPA(&file)
	if err != nil || !slices.Equal(again, words) {
		t.Fatalf("%v, words %q: want %q", err, again, words)
	}
	for _, d := range docs {
		a, _ := m.Nats(d)
		b, _ := r.Nats(d)
		if math.Abs(a-b) > 1e-6 {
			t.Errorf("%v: %v nats, read back %v", d, a, b)
		}
	}
	for _, bad := range []string{"", "a b", "a\tb", "a\n", "\r", " a"} {
		words[3] = bad
		if err := m.WriteARPA(&file, words); err == nil || !strings.Contains(err.Error(), "want no blanks") {
			t.Errorf("word %q: error %v", bad, err)
		}
	}
}

func TestBadARPA(t *testing.T) {
	for _, c := range []struct{ old, new, want string }{
		{`\data\`, "data", `no line \data\`},
		{"ngram 1=4", "ngram 2=4", "line 4: \"ngram 2=4\": want ngram 1=COUNT"},
		{"ngram 1=4", "ngram 1=-4", "want ngram 1=COUNT"},
		{"ngram 1=4", "ngram 1=4000000000000", "4 grams of 1 words: want 4000000000000"},
		{"ngram 1=4\nngram  2 = 2\n", "ngram 1=4\nngram 2=1\nngram 3=1\nngram 4=1\nngram 5=1\nngram 6=1\nngram 7=1\n", "order 7: want at most 6"},
		{"ngram 1=4\nngram  2 = 2\n", "", "want ngram 1=COUNT"},
		{`\2-grams:`, `\3-grams:`, `want \2-grams:`},
		{"\\end\\\n", "", `want \end\ as its last line`},
		{`\end\`, `\3-grams:`, `want \end\`},
		{"-0.1 <s> a", "0.1 <s> a", `logarithm "0.1"`},
		{"-0.1 <s> a", "NaN <s> a", `logarithm "NaN"`},
		{"-0.1 <s> a", "-0.1 <s>", "2 fields"},
		{"-0.1 <s> a", "-0.1 <s> a NaN", `logarithm "NaN" of a weight`},
		{"-0.1 <s> a", "-0.1 <s> a 1e9", `logarithm "1e9" of a weight`},
		{"-0.1 <s> a", "-0.1 <s> z", `word "z" is not among the single words`},
		{"-0.1 <s> a", "-0.1 b a", "the gram of line 14 stands twice"},
		{"-0.60206 b", "-0.60206 a", `word "a" stands twice`},
		{"-0.1 <s> a\n", "", "1 grams of 2 words: want 2"},
		{"ngram  2 = 2", "ngram 2=2\nngram 3=1", `"\\end\\": want \3-grams:`},
		{"\\end\\", "\\3-grams:\n-1 a b a\n\\end\\", ""},
		{"a line", strings.Repeat("x", maxLine+1), "token too long"},
	} {
		text := strings.Replace(small, c.old, c.new, 1)
		want := c.want
		if want == "" { // a context without an entry
			text, want = strings.Replace(text, "ngram  2 = 2", "ngram 2=2\nngram 3=1", 1), `context of "a b a" has no entry`
		}
		_, _, err := ReadARPA(strings.NewReader(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q for %q: error %.200v: want %q in it", c.new, c.old, err, want)
		}
	}
}

// FuzzReadARPA: no file panics, and what was read is written and read as the same model.
func FuzzReadARPA(f *testing.F) {
	f.Add([]byte(small))
	f.Add([]byte("\\data\\\nngram 1=2\nngram 2=1\nngram 3=1\n\\1-grams:\n-0.3 a -0.1\n-0.3 b -0.2\n\\2-grams:\n-0.1 a b -0.4\n\\3-grams:\n-0.01 a b b\n\\end\\\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, words, err := ReadARPA(bytes.NewReader(data))
		if err != nil {
			return
		}
		var file bytes.Buffer
		if err := m.WriteARPA(&file, words); err != nil {
			t.Fatal(err)
		}
		r, again, err := ReadARPA(&file)
		if err != nil || !slices.Equal(again, words) || !slices.Equal(m.word, r.word) || !slices.Equal(m.link, r.link) || !slices.Equal(m.first, r.first) {
			t.Fatalf("written and read: %v", err)
		}
		s := State(0)
		for i := range min(50, m.vocab) {
			var p float64
			if s, p = m.Next(s, int32(i*7%m.vocab)); p < 0 || p != p {
				t.Fatalf("probability %v", p)
			}
		}
	})
}

// failing is a disk with room for n bytes.
type failing struct{ n int }

func (f *failing) Write(p []byte) (int, error) {
	if f.n -= len(p); f.n < 0 {
		return 0, io.ErrShortWrite
	}
	return len(p), nil
}

func TestWriteFails(t *testing.T) {
	m, words, err := ReadARPA(strings.NewReader(small))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.WriteARPA(&failing{40}, words); err == nil {
		t.Error("a full disk gave no error")
	}
}

func TestWords(t *testing.T) {
	w := NewWords([]string{"b a <unk> b", " a  c </s>"}, 2)
	if want := []string{"<unk>", "<s>", "</s>", "a", "b"}; !slices.Equal(w.List, want) {
		t.Errorf("words %q: want %q", w.List, want)
	}
	if got, want := w.Sentence("c b <s> a"), []int32{1, 0, 4, 0, 3, 2}; !slices.Equal(got, want) {
		t.Errorf("sentence %v: want %v", got, want)
	}
}
