package conll

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestRead: the forms that files of this kind have, and the faults that readers of them had.
func TestRead(t *testing.T) {
	const four = "-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\n\nPeter NNP B-NP B-PER" // no line end at the end
	for _, c := range []struct {
		name, text string
		want       string // documents, sentences, words
	}{
		{"four columns", four, "1 2 3"},
		{"CRLF", strings.ReplaceAll(four, "\n", "\r\n"), "1 2 3"},
		{"two blank lines", strings.ReplaceAll(four, "\n\n", "\n\n\n"), "1 2 3"},
		{"tabs", strings.ReplaceAll(four, " ", "\t"), "1 2 3"},
		{"a line of blanks", strings.ReplaceAll(four, "\n\n", "\n \t \n"), "1 2 3"},
		{"a final blank line", four + "\n\n", "1 2 3"},
		{"no document mark", "a O\n\nb B-x\nc I-x\n", "1 2 3"},
		{"two documents", "-DOCSTART-\tO\n\na\tO\n-DOCSTART-\tO\n\nb\tO\n", "2 2 2"},
		{"an empty document", "-DOCSTART- O\n\n-DOCSTART- O\n\nb O\n", "1 1 1"},
		{"a space within a word", "a b\tO\nc\u00a0d\tO\n", "1 1 2"},
		{"a no-break space between spaces", "c\u00a0d O\n", "1 1 1"},
		{"nothing", "", "0 0 0"},
		{"one line of nothing", "\n", "0 0 0"},
		{"a document mark alone", "-DOCSTART-", "0 0 0"},
		{"a mark with fewer columns than the rows", "-DOCSTART-\n\na x O\n\n-DOCSTART- O\n\nb x O\n", "2 2 2"},
		{"a mark in the middle of a sentence", "a O\n-DOCSTART-\nb O", "2 2 2"},
		{"a mark at the end", "a O\n\n-DOCSTART-\n\n", "1 1 1"},
		{"a word that begins as the mark", "-DOCSTART-x O\n", "1 1 1"},
		{"a byte order mark", "\ufeff-DOCSTART- O\n\na O\n-DOCSTART- O\nb O", "2 2 2"},
		{"a byte order mark alone", "\ufeff", "0 0 0"},
		{"a byte order mark and a blank line", "\ufeff\r\n\r\na O\r\n", "1 1 1"},
		{"more than one carriage return at a line's end", "a O\r\r\n\r\r\nb O", "1 2 2"},
	} {
		docs, err := Read(strings.NewReader(c.text))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		sentences, words := 0, 0
		for _, d := range docs {
			sentences += len(d)
			words += d.Words()
		}
		if got := fmt.Sprint(len(docs), sentences, words); got != c.want {
			t.Errorf("%s: %s documents, sentences, words: want %s", c.name, got, c.want)
		}
	}
	docs, _ := Read(strings.NewReader(four))
	if d := docs[0]; !slices.Equal(d[0].Words, []string{"EU", "rejects"}) || !slices.Equal(d[0].Tags, []string{"B-ORG", "O"}) || d[1].Tags[0] != "B-PER" {
		t.Errorf("read %v", d)
	}
	if d, _ := Read(strings.NewReader("\ufeffEU B-ORG\n")); d[0][0].Words[0] != "EU" {
		t.Errorf("behind a byte order mark: %q: want EU", d[0][0].Words)
	}
	for _, c := range []struct{ text, want string }{
		{"EU B-ORG\rrejects O\r\rPeter B-PER", "line 1: a carriage return within it"}, {"a O\nb\rc O\n", "line 2: a carriage return"},
		{"a O\nb  \n", "line 2: 1 columns: want 2"}, {"a\tO\nb\tO\t\n", "line 2: 3 columns: want 2"},
		{"a x O\nb O\n", "line 2: 2 columns: want 3"}, {"a\n", "line 1: 1 columns: want 2"}, {"a O\n\nb X-y\n", `line 3: label "X-y"`},
		{"a\tB-\n", `label "B-"`}, {"a\tB\n", `label "B"`}, {"\tO\n", "line 1: no word"}, {"a O\n" + strings.Repeat("x", 1<<21), "line 2: bufio.Scanner: token too long"},
	} {
		if _, err := Read(strings.NewReader(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.20q: error %v: want %q", c.text, err, c.want)
		}
	}
}

// TestSpans: what conlleval makes of sequences, valid or not.
func TestSpans(t *testing.T) {
	for _, c := range []struct{ tags, want string }{
		{"", "[]"},
		{"O O", "[]"},
		{"B-x I-x O", "[{0 2 x}]"},
		{"B-x B-x I-x", "[{0 1 x} {1 3 x}]"},
		{"I-x", "[{0 1 x}]"},
		{"O I-x I-x", "[{1 3 x}]"},
		{"B-x I-y", "[{0 1 x} {1 2 y}]"},
		{"I-x I-y I-y I-x", "[{0 1 x} {1 3 y} {3 4 x}]"},
		{"B-x O I-x", "[{0 1 x} {2 3 x}]"},
		{"I-x B-x", "[{0 1 x} {1 2 x}]"},
		{"B-creative-work I-creative-work", "[{0 2 creative-work}]"},
	} {
		got, err := Spans(strings.Fields(c.tags))
		if err != nil || fmt.Sprint(got) != c.want {
			t.Errorf("%s: %v, %v: want %s", c.tags, got, err, c.want)
		}
	}
	if _, err := Spans([]string{"O", "E-x"}); err == nil || !strings.Contains(err.Error(), `word 1: label "E-x"`) {
		t.Errorf("error %v", err)
	}
}

// TestScore: hand-made cases, and the example of seqeval's documentation (pypi.org/project/seqeval, F1 0.50, accuracy 0.80).
func TestScore(t *testing.T) {
	for _, c := range []struct {
		gold, guessed        string // sentences between bars
		gn, sn, right        int
		precision, recall, f float64
		accuracy             float64
	}{
		{"O O O B-MISC I-MISC I-MISC O | B-PER I-PER O", "O O B-MISC I-MISC I-MISC I-MISC O | B-PER I-PER O", 2, 2, 1, 0.5, 0.5, 0.5, 0.8},
		{"B-x I-x", "I-x I-x", 1, 1, 1, 1, 1, 1, 0.5},                           // I after O begins as B does
		{"B-x I-x O", "B-x I-y O", 1, 2, 0, 0, 0, 0, 2. / 3},                    // a part with another type is none of it
		{"B-x B-x", "B-x I-x", 2, 1, 0, 0, 0, 0, 0.5},                           // two are not one
		{"O O", "B-x O", 0, 1, 0, 0, 0, 0, 0.5},                                 // none there
		{"B-x O", "O O", 1, 0, 0, 0, 0, 0, 0.5},                                 // none found
		{"B-x | I-x", "B-x | I-x", 2, 2, 2, 1, 1, 1, 1},                         // an entity ends with its sentence
		{"B-x O B-y O B-x", "B-x O B-x O O", 3, 2, 1, 0.5, 1. / 3, 0.4, 3. / 5}, // micro
	} {
		var s Score
		a, b := strings.Split(c.gold, "|"), strings.Split(c.guessed, "|")
		for i := range a {
			if err := s.Add(strings.Fields(a[i]), strings.Fields(b[i])); err != nil {
				t.Fatal(err)
			}
		}
		near := func(x, y float64) bool { return math.Abs(x-y) < 1e-12 }
		if s.All != (Counts{c.gn, c.sn, c.right}) || !near(s.All.Precision(), c.precision) || !near(s.All.Recall(), c.recall) || !near(s.All.F1(), c.f) || !near(s.Accuracy(), c.accuracy) {
			t.Errorf("%s / %s: %+v, F1 %v, accuracy %v: want %+v", c.gold, c.guessed, s.All, s.All.F1(), s.Accuracy(), c)
		}
	}
	var s Score
	if s.All.F1() != 0 || s.Accuracy() != 0 || s.Type("x") != (Counts{}) {
		t.Error("an empty score is not 0")
	}
	if err := s.Add([]string{"O"}, nil); err == nil || !strings.Contains(err.Error(), "0 labels for 1 words") {
		t.Errorf("error %v", err)
	}
}

// TestConlleval: testdata/conlleval.in holds random labels, a third of them changed, invalid sequences among them (made for this test, CC0);
// testdata/conlleval.out is what conlleval.pl (version 2004-01-26) prints of it.
func TestConlleval(t *testing.T) {
	in, err := os.ReadFile("testdata/conlleval.in")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/conlleval.out")
	if err != nil {
		t.Fatal(err)
	}
	var s Score
	for _, sentence := range strings.Split(strings.TrimSpace(string(in)), "\n\n") {
		var gold, guessed []string
		for line := range strings.Lines(sentence) {
			f := strings.Fields(line)
			gold, guessed = append(gold, f[1]), append(guessed, f[2])
		}
		if err := s.Add(gold, guessed); err != nil {
			t.Fatal(err)
		}
	}
	var b strings.Builder
	line := func(c Counts) string {
		return fmt.Sprintf("precision: %6.2f%%; recall: %6.2f%%; FB1: %6.2f", 100*c.Precision(), 100*c.Recall(), 100*c.F1())
	}
	fmt.Fprintf(&b, "processed %d tokens with %d phrases; found: %d phrases; correct: %d.\n", s.Words, s.All.Gold, s.All.Guessed, s.All.Right)
	fmt.Fprintf(&b, "accuracy: %6.2f%%; %s\n", 100*s.Accuracy(), line(s.All))
	for _, x := range s.Types() {
		fmt.Fprintf(&b, "%17s: %s  %d\n", x, line(s.Type(x)), s.Type(x).Guessed)
	}
	if b.String() != string(want) {
		t.Errorf("printed\n%swant\n%s", &b, want)
	}
}

// TestSets: counts of the sets as their READMEs state them.
func TestSets(t *testing.T) {
	data := os.Getenv("ATTNBENCH_DATA")
	if data == "" {
		t.Skip("no data folder: want ATTNBENCH_DATA")
	}
	for _, c := range []struct{ file, want string }{
		{"litbank-ner/train.conll", "69 5815 145122 8131"}, {"litbank-ner/dev.conll", "15 1293 31719 1760"}, {"litbank-ner/test.conll", "16 1454 33691 1878"},
		{"wnut17/train.conll", "1 3394 62730 1975"}, {"wnut17/dev.conll", "1 1009 15733 836"}, {"wnut17/test.conll", "1 1287 23394 1079"},
		{"uner-zh/train.conll", "1 3997 98616 6118"}, {"uner-zh/dev.conll", "1 500 12663 753"}, {"uner-zh/test.conll", "1 500 12012 763"},
	} {
		f, err := os.Open(filepath.Join(data, c.file))
		if err != nil {
			t.Fatal(err)
		}
		docs, err := Read(f)
		f.Close()
		if err != nil {
			t.Errorf("%s: %v", c.file, err)
			continue
		}
		sentences, words, entities := 0, 0, 0
		for _, d := range docs {
			sentences += len(d)
			words += d.Words()
			for _, s := range d {
				spans, err := Spans(s.Tags)
				if err != nil {
					t.Fatal(err)
				}
				entities += len(spans)
			}
		}
		if got := fmt.Sprint(len(docs), sentences, words, entities); got != c.want {
			t.Errorf("%s: %s documents, sentences, words, entities: want %s", c.file, got, c.want)
		}
	}
}
