package metric

import (
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func bleu(t *testing.T, tokenize string) BLEU {
	t.Helper()
	b, err := NewBLEU(tokenize)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// refs turns lists of references, one a translator, into one a segment.
func refs(lists ...[]string) [][]string {
	out := make([][]string, len(lists[0]))
	for i := range out {
		for _, l := range lists {
			out[i] = append(out[i], l[i])
		}
	}
	return out
}

func score(t *testing.T, m Metric, hyps []string, refs [][]string) float64 {
	t.Helper()
	r, err := Evaluate(m, hyps, refs)
	if err != nil {
		t.Fatal(err)
	}
	return r.Score
}

var (
	dogs = []string{"The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."}
	bit  = refs(
		[]string{"The dog bit the man.", "It was not unexpected.", "The man bit him first."},
		[]string{"The dog had bit the man.", "No one was surprised.", "The man had bitten the dog."})
)

// TestBLEUPublished: values of sacreBLEU's own tests (test/test_bleu.py), and some worked out by hand.
func TestBLEUPublished(t *testing.T) {
	for _, c := range []struct {
		name, tokenize string
		hyps           []string
		refs           [][]string
		want           float64
	}{
		{"two references, 13a", "13a", dogs, bit, 48.530827},
		{"two references, blanks", "none", dogs, bit, 49.1919566},
		{"empty", "13a", []string{"", "", ""}, bit, 0},
		{"one letter", "13a", []string{"this is a fest"}, [][]string{{"this is a test"}}, 59.46035575},
		{"equal", "13a", []string{"this is a test"}, [][]string{{"this is a test"}}, 100},
		{"marks split", "13a", []string{"The cat sat on the mat, and slept."}, [][]string{{"The cat sat on the mat , and slept ."}}, 100},
		{"marks kept", "none", []string{"The cat sat on the mat, and slept."}, [][]string{{"The cat sat on the mat , and slept ."}}, 100 * math.Pow(6.0/8*4/7*3/6*2/5, 0.25) * math.Exp(1-10.0/8)},
		{"corpus", "13a", []string{"the cat sat on the mat", "a dog barked at the red car"},
			[][]string{{"the cat sat on the mat"}, {"a dog barked at a blue car"}}, 69.583190},
		{"shorter than an order", "13a", []string{"a test"}, [][]string{{"a test"}}, 0},
		{"characters", "zh", []string{"我喜歡狗。"}, [][]string{{"我喜歡貓。"}}, 42.7287},
	} {
		got := score(t, bleu(t, c.tokenize), c.hyps, c.refs)
		if math.Abs(got-c.want) > 1e-4 {
			t.Errorf("%s: %.6f: want %.6f", c.name, got, c.want)
		}
	}
}

// TestBLEUByHand: hypothesis the the the the a, reference the cat is on a mat. Of 5 words 2 match (the once, a once), of orders 2 to 4 none, with
// 4, 3 and 2 n-grams; length 5 against 6.
func TestBLEUByHand(t *testing.T) {
	want := 100 * math.Exp(1-6.0/5) * math.Pow(2.0/5*1/(2*4)*1/(4*3.0)*1/(8*2.0), 0.25)
	if got := score(t, bleu(t, "13a"), []string{"the the the the a"}, [][]string{{"the cat is on a mat"}}); math.Abs(got-want) > 1e-9 {
		t.Errorf("%v: want %v", got, want)
	}
	// Of references with 3 and 5 words, hypothesis 4: the shorter counts, no penalty; and an n-gram as often as in either.
	c := bleu(t, "none").Count("a a b c", []string{"a b c x y", "a a z"})
	if want := []int{4, 3, 4, 4, 3, 3, 1, 2, 0, 1}; !slices.Equal(c, want) {
		t.Errorf("counts %v: want %v", c, want)
	}
}

// TestChrFPublished: values of sacreBLEU's own tests (test/test_chrf.py, β 3, effective order) and one worked out by hand.
func TestChrFPublished(t *testing.T) {
	plain, spaced := ChrF{Order: 6, Beta: 3}, ChrF{Order: 6, Beta: 3, Space: true}
	for _, c := range []struct {
		f          ChrF
		hyps, refs []string
		want       float64
	}{
		{plain, []string{"a"}, []string{"a"}, 100},
		{plain, []string{""}, []string{"reference"}, 0},
		{plain, []string{"a b c"}, []string{"a b c"}, 100},
		{plain, []string{"a b c"}, []string{"abc"}, 100},
		{plain, []string{""}, []string{"c"}, 0},
		{plain, []string{"a", "b"}, []string{"a", "c"}, 50},
		{plain, []string{"aa"}, []string{"ab"}, 25},
		{spaced, []string{"Die Beziehung zwischen Obama und Netanjahu ist nicht gerade freundlich."},
			[]string{"Das Verhältnis zwischen Obama und Netanyahu ist nicht gerade freundschaftlich."}, 67.3481606},
		{spaced, []string{"risk assessment must be made of those who are qualified and expertise in the sector - these are the scientists ."},
			[]string{"risk assessment has to be undertaken by those who are qualified and expert in that area - that is the scientists ."}, 65.2414427},
		// abcd and abc: P = (3/4+2/3+1/2)/3, R = 1 in the three orders that both have; P 0.638889, 5·P/(4·P+1).
		{ChrF2, []string{"abcd"}, []string{"abc"}, 100 * 5 * 0.6388889 / (4*0.6388889 + 1)},
	} {
		if got := score(t, c.f, c.hyps, refs(c.refs)); math.Abs(got-c.want) > 1e-4 {
			t.Errorf("%q, %q: %.6f: want %.6f", c.hyps, c.refs, got, c.want)
		}
	}
	if got := score(t, ChrF2, []string{"abc"}, [][]string{{"xyz", "abc", "ab"}}); got != 100 {
		t.Errorf("the best of several references: %v: want 100", got)
	}
}

// TestEdges: nothing to score, nothing to score against, and references that say the same: a number from 0 to 100 always, and what repeats counts once.
func TestEdges(t *testing.T) {
	const line, other = "the cat sat on the mat", "a dog barked at the red car"
	penalty := func(c, r float64) float64 { return 100 * math.Exp(1-r/c) }
	for _, c := range []struct {
		name       string
		hyps       []string
		refs       [][]string
		bleu, chrf float64
	}{
		{"both empty", []string{""}, [][]string{{""}}, 0, 0},
		{"an empty hypothesis", []string{""}, [][]string{{line, other}}, 0, 0},
		{"blanks alone", []string{" \t\u00a0"}, [][]string{{line}}, 0, 0},
		{"an empty reference", []string{line}, [][]string{{""}}, 0, 0},
		{"an empty reference beside a good one", []string{line}, [][]string{{"", line}}, 100, 100},
		{"the same reference three times", []string{line}, [][]string{{line, line, line}}, 100, 100},
		{"other blanks", []string{"\u3000the cat  sat on the\u00a0mat \n"}, [][]string{{line}}, 100, 100},
		{"an empty hypothesis beside a good one", []string{line, ""}, [][]string{{line}, {other}}, penalty(6, 13), 100 * 5 * recall(line, other) / (4 + recall(line, other))},
		{"a segment with an empty reference beside a good one", []string{line, "x"}, [][]string{{line}, {""}}, 100 * math.Pow(6./7, 0.25), 100},
	} {
		for _, tok := range []string{"13a", "zh", "none"} {
			if got := score(t, bleu(t, tok), c.hyps, c.refs); math.Abs(got-c.bleu) > 1e-6 {
				t.Errorf("%s: BLEU %s %v: want %v", c.name, tok, got, c.bleu)
			}
		}
		if got := score(t, ChrF2, c.hyps, c.refs); math.Abs(got-c.chrf) > 1e-6 {
			t.Errorf("%s: chrF %v: want %v", c.name, got, c.chrf)
		}
	}
	rapid.Check(t, func(t *rapid.T) { // order and repetition of references change nothing
		text := rapid.StringMatching(`[ab .]{0,12}`)
		hyp, list := text.Draw(t, "hypothesis"), rapid.SliceOfN(text, 1, 3).Draw(t, "references")
		again := append(slices.Clone(list), list...)
		slices.Reverse(again)
		for _, m := range []Metric{BLEU{"13a"}, ChrF2} {
			if a, b := m.Score(m.Count(hyp, list)), m.Score(m.Count(hyp, again)); a != b {
				t.Fatalf("%T: %v, with the references twice and backwards %v", m, a, b)
			}
		}
	})
}

// recall is the share of the first line's character n-grams in those of both, averaged over the orders.
func recall(line, other string) float64 {
	a, b := len(strings.ReplaceAll(line, " ", "")), len(strings.ReplaceAll(other, " ", ""))
	sum := 0.0
	for n := range 6 {
		sum += float64(a-n) / float64(a-n+b-n)
	}
	return sum / 6
}

// TestTokenizers: the cases that distinguish the tokenisations; both were held against sacreBLEU's own rules, run by Python, on 218,950
// lines: the test sets bible-en-es and tatoeba-en-zh, random strings, and every character below U+30000 between two letters.
func TestTokenizers(t *testing.T) {
	for _, c := range []struct{ line, a13, zh string }{
		{"Hello, world!", "Hello , world !", "Hello , world !"},
		{"3.14 and 1,000. 5-6 x-y", "3.14 and 1,000 . 5 - 6 x-y", "3.14 and 1,000 . 5 - 6 x-y"},
		{"don't (it)", "don't ( it )", "don't ( it )"},
		{"&amp;lt; &quot;a&quot;", `< " a "`, "& amp ; lt ; & quot ; a & quot ;"},
		{"a-\nb\nc<skipped>", "ab c", "a- b c < skipped >"},
		{"你好,world", "你好 , world", "你 好 , world"},
		{"“a”—b", "“a”—b", "“ a ” — b"},
		{"𠀀𠀁", "𠀀𠀁", "𠀀𠀁"},
		{" \u00a0a\u3000b\x1fc", "a b c", "a b c"},
	} {
		if got := strings.Join(tokenize13a(c.line), " "); got != c.a13 {
			t.Errorf("13a of %q: %q: want %q", c.line, got, c.a13)
		}
		if got := strings.Join(tokenizeZh(c.line), " "); got != c.zh {
			t.Errorf("zh of %q: %q: want %q", c.line, got, c.zh)
		}
	}
}

func TestEvaluate(t *testing.T) {
	r, err := Evaluate(bleu(t, "13a"), dogs, bit)
	if err != nil {
		t.Fatal(err)
	}
	if want := "BLEU|nrefs:2|bs:1000|seed:12345|case:mixed|eff:no|tok:13a|smooth:exp|version:attnbench.1"; r.Signature != want {
		t.Errorf("signature %s: want %s", r.Signature, want)
	}
	if !(r.Low < r.Score && r.Score < r.High) {
		t.Errorf("interval %v to %v round %v: want it inside", r.Low, r.High, r.Score)
	}
	if again, _ := Evaluate(bleu(t, "13a"), dogs, bit); again != r {
		t.Errorf("a second time %v: want %v", again, r)
	}
	same := slices.Repeat([]string{"this is a fest"}, 50)
	if r, _ := Evaluate(ChrF2, same, slices.Repeat([][]string{{"this is a test", "no"}}, 50)); r.Low != r.Score || r.High != r.Score || !strings.Contains(r.Signature, "chrF2|nrefs:2|") {
		t.Errorf("equal segments: %v: want no spread", r)
	}
	if r, _ := Evaluate(ChrF2, []string{"a", "b"}, [][]string{{"a"}, {"b", "c"}}); !strings.Contains(r.Signature, "nrefs:var") {
		t.Errorf("signature %s: want nrefs:var", r.Signature)
	}
	for _, c := range []struct {
		hyps []string
		refs [][]string
		want string
	}{
		{nil, nil, "0 hypotheses"}, {[]string{"a"}, nil, "1 hypotheses, 0 lists"}, {[]string{"a", "b"}, [][]string{{"a"}, {}}, "segment 1 has no reference"},
	} {
		if _, err := Evaluate(ChrF2, c.hyps, c.refs); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v: want %q", err, c.want)
		}
	}
	if _, err := NewBLEU("intl"); err == nil || !strings.Contains(err.Error(), "want 13a, zh or none") {
		t.Errorf("unknown tokenisation: %v", err)
	}
}

// TestBounds: scores lie from 0 to 100; a reference among them gives 100, if it is long enough for all orders.
func TestBounds(t *testing.T) {
	line := rapid.StringMatching(`[ab 你.]{0,20}`)
	rapid.Check(t, func(t *rapid.T) {
		hyp, list := line.Draw(t, "hypothesis"), rapid.SliceOfN(line, 1, 3).Draw(t, "references")
		for _, m := range []Metric{BLEU{"13a"}, BLEU{"zh"}, ChrF2} {
			c := m.Count(hyp, list)
			if s := m.Score(c); !(s >= 0 && s <= 100+1e-9) {
				t.Fatalf("%T: %v", m, s)
			}
			if s := m.Score(m.Count("a b a 你", append(list, "a b a 你"))); math.Abs(s-100) > 1e-9 {
				t.Fatalf("%T of a reference: %v", m, s)
			}
		}
	})
}
