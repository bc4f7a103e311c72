package wordpiece

import (
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func learn(t testing.TB, size int, texts ...string) *Vocabulary {
	t.Helper()
	v, err := Train(slices.Values(texts), size)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestWords(t *testing.T) {
	for _, c := range []struct {
		text string
		want []string
	}{
		{"", nil},
		{" \t\n", nil},
		{"Don't go.", []string{"Don", "'", "t", "go", "."}},
		{"“Don’t”—she – said--no", []string{"\"", "Don", "'", "t", "\"", "-", "she", "-", "said", "-", "no"}},
		{"a - -- b", []string{"a", "-", "-", "b"}},
		{"naïve café", []string{"naïve", "café"}},
		{"e\u0301te\u0301", []string{"e\u0301te\u0301"}},
		{"他说hello。", []string{"他", "说", "hello", "。"}},
		{"\ufeffa\u200bb\x00c", []string{"abc"}},
		{"a\xffb", []string{"ab"}},
		{"x\u00a0y", []string{"x", "y"}},
		{"№ 5½ €", []string{"№", "5½", "€"}},
		{"_it_", []string{"_", "it", "_"}},
	} {
		if got := slices.Collect(Words(c.text)); !slices.Equal(got, c.want) {
			t.Errorf("%q: %q: want %q", c.text, got, c.want)
		}
	}
	for range Words("several words") { // a caller may stop
		break
	}
}

// TestTrain: the merges of a text small enough to count by hand. hug 10, pug 5, pun 12, bun 4, hugs 5 (the example of Hugging Face's course) have
// the pairs ug 20, pu 17, un 16, hu 15, gs 5, bu 4: ##u##g is first, then ##u##n 16, h##ug 15, p##un 12, hug##s 5, p##ug 5, b##un 4.
func TestTrain(t *testing.T) {
	text := strings.Repeat("hug ", 10) + strings.Repeat("pug ", 5) + strings.Repeat("pun ", 12) + strings.Repeat("bun ", 4) + strings.Repeat("hugs ", 5)
	all := []string{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "##u", "##g", "p", "##n", "h", "##s", "b", "##ug", "##un", "hug", "pun", "pug", "hugs", "bun"}
	for _, size := range []int{15, 17, len(all), 100} {
		v := learn(t, size, text)
		want := all[:min(size, len(all))]
		if got := strings.Fields(v.String()); !slices.Equal(got, want) {
			t.Errorf("%d pieces: %q: want %q", size, got, want)
		}
	}
	v := learn(t, 100, text)
	for _, c := range []struct{ text, want string }{
		{"hug pugs", "hug pug ##s"}, {"bug", "b ##ug"}, {"mug hug", "[UNK] hug"}, {"hub", "[UNK]"}, {"hugsugun", "hugs ##ug ##un"}, {"", ""},
		{strings.Repeat("hug", 34), "[UNK]"}, {strings.Repeat("hug", 33) + "h", "[UNK]"},
	} {
		var got []string
		for _, id := range v.Encode(c.text) {
			got = append(got, v.Piece(id))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%q: %q: want %q", c.text, got, c.want)
		}
	}
	if got := v.Decode(v.Encode("hugs pugs")); got != "hugs pugs" {
		t.Errorf("decoded %q", got)
	}
}

// TestMergesAreTheMostFrequent: the queue finds what counting all pairs anew before each merge finds.
func TestMergesAreTheMostFrequent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOfN(rapid.StringOfN(rapid.RuneFrom([]rune("aab")), 1, 8, -1), 1, 30).Draw(t, "words"), " ")
		size := rapid.IntRange(6, 30).Draw(t, "size")
		v, err := Train(slices.Values([]string{text}), size)
		if err != nil {
			t.Fatal(err)
		}
		if want := slowTrain(text, size); !slices.Equal(v.pieces, want) {
			t.Fatalf("%q: %q: want %q", text, v.pieces, want)
		}
	})
}

func slowTrain(text string, size int) []string {
	counts := map[string]int{}
	for _, w := range strings.Fields(text) {
		counts[w]++
	}
	pieces := slices.Clone(specials)
	pieces = append(pieces, alphabet(counts, max(1, (size-5)*3/4))...)
	var words [][]string
	for w, n := range counts {
		var cut []string
		for i, r := range w {
			cut = append(cut, piece(string(r), i > 0))
		}
		if !slices.ContainsFunc(cut, func(p string) bool { return !slices.Contains(pieces, p) }) {
			for range n {
				words = append(words, cut)
			}
		}
	}
	for len(pieces) < size {
		pairs := map[[2]string]int{}
		for _, w := range words {
			for i := 1; i < len(w); i++ {
				pairs[[2]string{w[i-1], w[i]}]++
			}
		}
		var best [2]string
		at := func(p string) int { return slices.Index(pieces, p) }
		for p, n := range pairs {
			b := pairs[best]
			if n > b || n == b && (at(p[0]) < at(best[0]) || p[0] == best[0] && at(p[1]) < at(best[1])) {
				best = p
			}
		}
		if pairs[best] < 2 {
			break
		}
		whole := best[0] + strings.TrimPrefix(best[1], "##")
		if at(whole) < 0 {
			pieces = append(pieces, whole)
		}
		for i, w := range words {
			var out []string
			for j := 0; j < len(w); j++ {
				if j+1 < len(w) && w[j] == best[0] && w[j+1] == best[1] {
					out = append(out, whole)
					j++
					continue
				}
				out = append(out, w[j])
			}
			words[i] = out
		}
	}
	return pieces
}

// TestEncode: pieces spell the word that they were cut from, a word of any characters has at least one, and no text gives a special piece
// but Unknown.
func TestEncode(t *testing.T) {
	v := learn(t, 60, "the cat sat on the mat, the cat's hat; a rat ran at the cat. 他说他去", "[CLS] [MASK] [PAD]")
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.StringOf(rapid.RuneFrom([]rune("thecatsom '-他说[]MASK")))).Draw(t, "text")
		for w := range Words(text) {
			if !utf8.ValidString(w) || w == "" || strings.ContainsAny(w, " \n") {
				t.Fatalf("%q has the word %q", text, w)
			}
			ids := v.EncodeWord(w)
			for i, id := range ids {
				if v.Special(id) && (id != v.Unknown || len(ids) > 1) {
					t.Fatalf("%q: piece %s", w, v.Piece(id))
				}
				if goesOn := strings.HasPrefix(v.Piece(id), "##"); goesOn != (i > 0) {
					t.Fatalf("%q: piece %d is %s", w, i, v.Piece(id))
				}
			}
			if ids[0] != v.Unknown && v.Decode(ids) != w {
				t.Fatalf("%q comes back as %q", w, v.Decode(ids))
			}
		}
		if len(v.EncodeWord(text)) == 0 {
			t.Fatalf("%q has no piece", text)
		}
	})
}

// TestSameVocabulary: the order of texts does not matter, and a vocabulary is what its own text says.
func TestSameVocabulary(t *testing.T) {
	texts := []string{"one two three", "two three four", "three four five", "on to no"}
	v := learn(t, 40, texts...)
	slices.Reverse(texts)
	if w := learn(t, 40, texts...); w.String() != v.String() {
		t.Errorf("in another order: %q: want %q", w, v)
	}
	w, err := Parse(strings.ReplaceAll(v.String(), "\n", "\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	if w.String() != v.String() || w.Mask != v.Mask || w.Size() != v.Size() {
		t.Errorf("read back: %q: want %q", w, v)
	}
	// A public file has its special pieces anywhere.
	if w, err = Parse("a\n[MASK]\n##b\n[UNK]\n[SEP]\n[PAD]\n[CLS]\n[unused1]\n"); err != nil {
		t.Fatal(err)
	}
	if got := w.Encode("ab [MASK]"); !slices.Equal(got, []int32{0, 2, 3, 3, 3}) || w.Pad != 5 || w.Mask != 1 || !w.Special(6) || w.Special(7) {
		t.Errorf("%v from %q", got, w)
	}
}

func TestRefuses(t *testing.T) {
	head := strings.Join(specials, "\n") + "\n"
	for _, c := range []struct{ text, want string }{
		{"", "no piece [PAD]"}, {"[PAD]\n[UNK]\n[CLS]\n[SEP]\n", "no piece [MASK]"}, {head + "a\na\n", `piece 6 is "a"`},
		{head + "\nb\n", `piece 5 is ""`}, {head + "[PAD]\n", `piece 5 is "[PAD]"`}, {head + "##a\n##a\n", `piece 6 is "##a"`},
	} {
		if _, err := Parse(c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: error %v: want %q", c.text, err, c.want)
		}
	}
	if _, err := Train(slices.Values([]string{"a"}), 5); err == nil || !strings.Contains(err.Error(), "want 6 to") {
		t.Errorf("5 pieces: error %v", err)
	}
	if v := learn(t, 50); v.Size() != 5 || !slices.Equal(v.Encode("a b"), []int32{1, 1}) {
		t.Errorf("of no text: %q", v)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(strings.Join(specials, "\n")+"\na\n##b\n", "ab")
	f.Add("[PAD]\n\n", "")
	f.Fuzz(func(t *testing.T, text, words string) {
		v, err := Parse(text)
		if err != nil {
			return
		}
		for _, id := range v.EncodeWord(words) {
			if id < 0 || int(id) >= v.Size() {
				t.Fatalf("piece %d of %d", id, v.Size())
			}
		}
		if w, err := Parse(v.String()); err != nil || w.String() != v.String() {
			t.Fatalf("read back: %v", err)
		}
	})
}

// TestAnyText: of whatever bytes, words are not empty, valid, without blanks and controls, and again the words of themselves.
func TestAnyText(t *testing.T) {
	v := learn(t, 60, strings.Repeat("any text of words ", 9))
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
			rapid.StringOf(rapid.SampledFrom([]rune("a-–—’\u0301\u200d\u202e\ufe0f\u00ad\ufffd\ufeff\u2028\u0085\U0001f468한ب你[]#\x00\x1f")))).Draw(t, "text")
		words := slices.Collect(Words(text))
		for _, w := range words {
			if w == "" || !utf8.ValidString(w) || strings.ContainsFunc(w, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
				t.Fatalf("%q: word %q", text, w)
			}
		}
		if again := slices.Collect(Words(strings.Join(words, " "))); !slices.Equal(again, words) {
			t.Fatalf("%q: words %q, of these %q", text, words, again)
		}
		if n := len(v.Encode(text)); n < len(words) {
			t.Fatalf("%q: %d pieces of %d words", text, n, len(words))
		}
		for _, id := range v.Encode(text) {
			if v.Special(id) && id != v.Unknown {
				t.Fatalf("%q holds the special piece %s", text, v.Piece(id))
			}
		}
	})
}
