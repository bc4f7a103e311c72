package bert

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"attnbench/autograd"
	"attnbench/system"
	"attnbench/task"
	"attnbench/text/conll"
	"attnbench/text/wordpiece"
)

// TestAlignment: every word of a sentence has exactly one labelled piece, its first, whatever its characters; nothing else is labelled.
func TestAlignment(t *testing.T) {
	x := newSystem(t, "ner").(*ner)
	v, err := wordpiece.Train(slices.Values([]string{"the cat sat on the mat and the rat ran to the cats mats, don't run"}), 64)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOfN(rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"cats", "don't", "mat-rat", "\u200b", "😀️", "zzz", " ", "他说"})), 1, 20).Draw(t, "words")
		s := conll.Sentence{Words: words}
		for range words {
			s.Tags = append(s.Tags, rapid.SampledFrom(x.tags).Draw(t, "tag"))
		}
		e, err := x.sentence(v, s)
		if err != nil {
			t.Fatal(err)
		}
		at := 0
		for i, w := range words {
			pieces := v.EncodeWord(w)
			for j, p := range pieces {
				want := autograd.Ignored
				if j == 0 {
					want = int32(slices.Index(x.tags, s.Tags[i]))
				}
				if e.pieces[at] != p || e.labels[at] != want {
					t.Fatalf("word %q, piece %d: %d labelled %d: want %d labelled %d", w, j, e.pieces[at], e.labels[at], p, want)
				}
				at++
			}
		}
		if at != len(e.pieces)-1 || e.pieces[at] != v.End || e.labels[at] != autograd.Ignored || len(e.labels) != len(e.pieces) {
			t.Fatalf("%d pieces, %d labels: want %d and the end", len(e.pieces), len(e.labels), at)
		}
	})
	if _, err := x.sentence(v, conll.Sentence{Words: []string{"a"}, Tags: []string{"B-misc"}}); err == nil || !strings.Contains(err.Error(), `label "B-misc"`) {
		t.Errorf("error %v", err)
	}
}

func litbank(t *testing.T) (*ner, []conll.Document, *wordpiece.Vocabulary) {
	t.Helper()
	x := newSystem(t, "ner").(*ner)
	f := &system.Fit{Data: "testdata"}
	training, _, err := x.set.read(f, false)
	if err != nil {
		t.Fatal(err)
	}
	v, err := bookWords(f, 200)
	if err != nil {
		t.Fatal(err)
	}
	return x, training, v
}

// TestSpans: the texts that a document is cut into are the document, each within the span or of a single sentence.
func TestSpans(t *testing.T) {
	x, docs, v := litbank(t)
	rapid.Check(t, func(t *rapid.T) {
		span := rapid.IntRange(1, 80).Draw(t, "span")
		r := newRand(rapid.Uint64().Draw(t, "seed"))
		for _, d := range docs {
			whole, err := x.encode(v, d, 0, nil)
			if err != nil || len(whole) != 1 {
				t.Fatalf("%d texts, %v: want 1", len(whole), err)
			}
			cut, err := x.encode(v, d, span, r)
			if err != nil {
				t.Fatal(err)
			}
			all := []int32{v.Class}
			for _, e := range cut {
				if e.pieces[0] != v.Class || len(e.pieces) != len(e.labels) {
					t.Fatalf("text %v", e)
				}
				sentences := 0
				for _, p := range e.pieces {
					if p == v.End {
						sentences++
					}
				}
				if sentences == 0 || len(e.pieces) > span && sentences > 1 {
					t.Fatalf("%d sentences of %d pieces: want at most %d", sentences, len(e.pieces), span)
				}
				all = append(all, e.pieces[1:]...)
			}
			if !slices.Equal(all, whole[0].pieces) {
				t.Fatal("the texts are not the document")
			}
		}
	})
}

// TestEntityScore: labels that are right give F1 1, whatever the batches; what a batch lacks is an error.
func TestEntityScore(t *testing.T) {
	x, docs, v := litbank(t)
	k := &batches{pad: v.Pad}
	for _, d := range docs {
		e, err := x.encode(v, d, 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		k.test = append(k.test, e...)
	}
	for _, tokens := range []int{1, 1000} {
		k.tokens = tokens
		score := &entityScore{types: x.set.types, tags: x.tags, docs: docs}
		words := 0
		for b := range k.Eval(task.Test, 0) {
			if err := score.Add(b, make([]float32, len(b.Labels)), b.Labels); err != nil {
				t.Fatal(err)
			}
		}
		for _, d := range docs {
			words += d.Words()
		}
		values := score.Values()
		if got := fmt.Sprint(values[0].Value, values[1].Value, values[2].Value, score.Words); got != fmt.Sprint(1, 1, 1, words) {
			t.Errorf("%d tokens: F1, precision, recall, words %s", tokens, got)
		}
	}
	b := k.pack(k.test, []int{0}, 0)
	b.Labels[slices.IndexFunc(b.Labels, func(l int32) bool { return l >= 0 })] = autograd.Ignored
	score := &entityScore{types: x.set.types, tags: x.tags, docs: docs}
	if err := score.Add(b, make([]float32, len(b.Labels)), b.Labels); err == nil || !strings.Contains(err.Error(), "1 words more than labels") {
		t.Errorf("a word without a label: %v", err)
	}
	if err := score.Add(b, nil, nil); err == nil || !strings.Contains(err.Error(), "0 losses and 0 predictions") {
		t.Errorf("error %v", err)
	}
}

// TestClassScore: a hand-made case of 3 texts of a class and 2 out of scope.
func TestClassScore(t *testing.T) {
	s := newClassScore([]string{"a", "oos"}, "oos")
	b := task.Batch{Rows: 5, Length: 4, Tokens: make([]int32, 20)}
	labels, guesses := []int32{0, 0, 0, 1, 1}, []int32{0, 0, 1, 1, 0}
	nats, predicted := make([]float32, 20), make([]int32, 20)
	for row := range 5 {
		b.Labels = append(b.Labels, -1, -1, -1, labels[row])
		nats[4*row+3], predicted[4*row+3] = float32(row), guesses[row]
	}
	if err := s.Add(b, nats, predicted); err != nil {
		t.Fatal(err)
	}
	want := []task.Value{{Unit: "in-scope-accuracy", Value: 2. / 3, Count: 3}, {Unit: "oos-recall", Value: 0.5, Count: 2}, {Unit: "oos-precision", Value: 0.5, Count: 2}, {Unit: "accuracy", Value: 0.6, Count: 5}, {Unit: "nats/query", Value: 2, Count: 5}}
	if got := s.Values(); !slices.Equal(got, want) {
		t.Errorf("%v: want %v", got, want)
	}
}

// TestPassages: passages follow one another behind the first 3,000 bytes, in other books in test than in training, without the marks by which editions
// differ.
func TestPassages(t *testing.T) {
	text := strings.Repeat("x", skipped) + strings.Repeat("ab“cd”—ef_g ", 40)
	books := []book{{author: "a", authorship: "train", text: text}, {author: "a", authorship: "test", text: text + "end"}, {author: "b", authorship: "-", text: text}, {author: "b", authorship: "train", text: "short"}}
	list := passages(books, "train", 64, nil)
	all := ""
	for _, p := range list {
		if p.class != "a" || strings.ContainsAny(p.text, "x“”—_") || len(p.text) < 30 {
			t.Errorf("passage %q of %s", p.text, p.class)
		}
		all += p.text
	}
	if want := plain(text[skipped:]); !strings.HasPrefix(want, all) || len(want)-len(all) > 64 || !strings.HasPrefix(all, `ab"cd"-efg ab"`) {
		t.Errorf("passages %q", all)
	}
	if moved := passages(books, "train", 64, newRand(1)); moved[0] == list[0] {
		t.Error("drawn passages begin where the others do")
	}
	if got := len(passages(books, "test", 64, nil)); got != len(list) {
		t.Errorf("%d passages: want %d", got, len(list))
	}
}

func TestParse(t *testing.T) {
	got, err := parseCSV(strings.NewReader("text,category\r\n\"a, \"\"b\"\"\nc\",x\r\nd,y\r\n"))
	if err != nil || !slices.Equal(got, []labelled{{"a, \"b\"\nc", "x"}, {"d", "y"}}) {
		t.Errorf("%q, %v", got, err)
	}
	got, err = parseTSV(strings.NewReader("text\tintent\nhe said \"a\tx\n"))
	if err != nil || !slices.Equal(got, []labelled{{"he said \"a", "x"}}) {
		t.Errorf("%q, %v", got, err)
	}
	for _, c := range []struct{ text, want string }{{"", "no header"}, {"a\tb\n", "no header"}, {"text\tintent\na\n", "line 2: 1 columns"}, {"text\tintent\na\t\n", "row 2: no class"}} {
		if _, err := parseTSV(strings.NewReader(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: error %v: want %q", c.text, err, c.want)
		}
	}
	if _, err := parseCSV(strings.NewReader("text,category\na\n")); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("error %v", err)
	}
	const head = "file\tauthor\tlm_split\tauthorship_split\n"
	for _, c := range []struct{ text, want string }{
		{"file\tauthor\n", "line 1: columns"}, {head, "no books"}, {head + "a\n", "line 2: 1 columns: want at least 4"}, {head + "../a\tb\ttrain\t-\n", "want a path within the folder"},
	} {
		if _, _, err := parseIndex(c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: error %v: want %q", c.text, err, c.want)
		}
	}
}

// TestBayes: by hand, with a tenth added to each of 4 words: p(a|x) = 2.1/3.4, p(a|y) = 0.1/2.4, p(c|x) = 0.1/3.4, p(c|y) = 1.1/2.4, and 2/3 and 1/3
// before.
func TestBayes(t *testing.T) {
	b := newBayes([]labelled{{"A a", "x"}, {"b", "x"}, {"c d", "y"}}, words)
	for text, want := range map[string]string{"a": "x", "c": "y", "a c": "x", "c c a": "y", "": "x", "unseen c": "y"} {
		if got := b.class(text); got != want {
			t.Errorf("%q: %s: want %s", text, got, want)
		}
	}
	if p := b.weights["c"]; fmt.Sprintf("%.4f %.4f", p[0], p[1]) != "-3.5264 -0.7802" {
		t.Errorf("p(c) %v", p)
	}
	if m := majority([]labelled{{"", "b"}, {"", "a"}, {"", "b"}, {"", "a"}}); m != "a" {
		t.Errorf("majority %s: want the first of equals", m)
	}
}

// TestDictionary: the longest entity first, the most frequent type, and no words that are more often no entity.
func TestDictionary(t *testing.T) {
	docs, err := conll.Read(strings.NewReader(strings.ReplaceAll("New B-GPE,York I-GPE,is O,in O,York B-GPE,,York B-PER,said O,May B-PER,,York B-GPE,may O,May O,be O,,", ",", "\n")))
	if err != nil {
		t.Fatal(err)
	}
	d, err := newDictionary(docs)
	if err != nil {
		t.Fatal(err)
	}
	got := d.tags(strings.Fields("York New York May New"))
	if want := strings.Fields("B-GPE B-GPE I-GPE O O"); !slices.Equal(got, want) {
		t.Errorf("%q: want %q", got, want)
	}
}
