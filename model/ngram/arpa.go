package ngram

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// maxLine bounds a line of an ARPA file.
const maxLine = 1 << 20

// ReadARPA reads a model from a file in the ARPA format, of any toolkit that writes every gram's context, and returns the words of its tokens, in
// the order of the file. The word <s>, if there is one, is Begin; no word stands for unknown ones, <unk>, but where the file has it.
func ReadARPA(r io.Reader) (*Model, []string, error) {
	a := arpa{scan: bufio.NewScanner(r), index: map[string]int32{}, begin: None}
	a.scan.Buffer(nil, maxLine)
	m, err := a.read()
	if e := a.scan.Err(); e != nil {
		err = e
	}
	if err != nil {
		return nil, nil, fmt.Errorf("arpa file: line %d: %w", a.line, err)
	}
	return m, a.words, nil
}

// arpa reads a file.
type arpa struct {
	scan  *bufio.Scanner
	line  int
	want  []int // grams of each order, as the header says
	words []string
	index map[string]int32
	begin int32
}

// gram is a line of an ARPA file.
type gram struct {
	parent       int32 // node of the context
	token        int32
	tokens       [MaxOrder]int32
	prob, weight float64
	line         int
}

// blanks separate the fields of a line. Other white space of Unicode is part of a word, as toolkits write it.
const blanks = " \t\r\v\f"

func fields(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(blanks, r) })
}

// next returns the next line that is not blank, without outer blanks.
func (a *arpa) next() (string, bool) {
	for a.scan.Scan() {
		a.line++
		if s := strings.Trim(a.scan.Text(), blanks); s != "" {
			return s, true
		}
	}
	return "", false
}

func (a *arpa) read() (*Model, error) {
	for {
		s, ok := a.next()
		if !ok {
			return nil, errors.New(`no line \data\: want one`)
		}
		if s == `\data\` {
			break
		}
	}
	s, err := a.header()
	if err != nil {
		return nil, err
	}
	m := &Model{order: len(a.want)}
	m.add(&gram{token: None, weight: 1}, 0)
	var grams []gram
	for k := 1; k <= m.order; k++ {
		if want := fmt.Sprintf(`\%d-grams:`, k); s != want {
			return nil, fmt.Errorf("%q: want %s", s, want)
		}
		grams = grams[:0]
		ok := false
		for s, ok = a.next(); ok && !strings.HasPrefix(s, `\`); s, ok = a.next() {
			g, err := a.gram(m, s, k)
			if err != nil {
				return nil, err
			}
			grams = append(grams, g)
		}
		if !ok {
			return nil, errors.New(`the file ends: want \end\ as its last line`)
		}
		if len(grams) != a.want[k-1] {
			return nil, fmt.Errorf("%d grams of %d words: want %d, as the header says", len(grams), k, a.want[k-1])
		}
		if err := m.addAll(grams, k); err != nil {
			return nil, err
		}
		if k == 1 {
			m.vocab, m.begin = len(a.words), a.begin
		}
	}
	if s != `\end\` {
		return nil, fmt.Errorf(`%q: want \end\`, s)
	}
	for len(m.first) < len(m.word)+1 {
		m.first = append(m.first, int32(len(m.word)))
	}
	return m, nil
}

// header reads how many grams there are, and returns the line after.
func (a *arpa) header() (string, error) {
	for {
		s, ok := a.next()
		if !ok {
			return "", errors.New("the file ends in its header: want grams")
		}
		rest, ok := strings.CutPrefix(s, "ngram")
		if !ok {
			if len(a.want) == 0 {
				return "", fmt.Errorf("%q: want ngram 1=COUNT", s)
			}
			return s, nil
		}
		left, right, _ := strings.Cut(rest, "=")
		order, err1 := strconv.Atoi(strings.TrimSpace(left))
		n, err2 := strconv.Atoi(strings.TrimSpace(right))
		if err1 != nil || err2 != nil || order != len(a.want)+1 || n < 0 {
			return "", fmt.Errorf("%q: want ngram %d=COUNT", s, len(a.want)+1)
		}
		if order > MaxOrder {
			return "", fmt.Errorf("order %d: want at most %d", order, MaxOrder)
		}
		a.want = append(a.want, n)
	}
}

// gram reads a line: the logarithm of the probability to base 10, k words and, unless it is 0, the logarithm of the weight.
func (a *arpa) gram(m *Model, s string, k int) (gram, error) {
	g := gram{line: a.line, weight: 1}
	f := fields(s)
	if len(f) != k+1 && len(f) != k+2 {
		return g, fmt.Errorf("%d fields: want a logarithm, %d words and perhaps another logarithm", len(f), k)
	}
	p, err := strconv.ParseFloat(f[0], 64)
	if err != nil || !(p <= 0) {
		return g, fmt.Errorf("logarithm %q of a probability: want a number of at most 0", f[0])
	}
	if p > -99 { // what says never
		g.prob = math.Pow(10, p)
	}
	if len(f) == k+2 {
		w, err := strconv.ParseFloat(f[k+1], 64)
		g.weight = math.Pow(10, w)
		if err != nil || !(w < 300) { // NaN too
			return g, fmt.Errorf("logarithm %q of a weight: want a number below 300", f[k+1])
		}
	}
	for i, word := range f[1 : k+1] {
		id, known := a.index[word]
		switch {
		case k == 1 && known:
			return g, fmt.Errorf("word %q stands twice: want each once", word)
		case k == 1:
			id = int32(len(a.words))
			a.words = append(a.words, word)
			a.index[word] = id
			if word == "<s>" {
				a.begin = id
			}
		case !known:
			return g, fmt.Errorf("word %q is not among the single words: want it there", word)
		}
		g.tokens[i] = id
	}
	g.token = g.tokens[k-1]
	if k > 1 {
		if g.parent = m.find(g.tokens[:k-1]); g.parent == 0 {
			return g, fmt.Errorf("context of %q has no entry: want one", strings.Join(f[1:k+1], " "))
		}
	}
	return g, nil
}

// find returns the node of a gram, 0 if it has none.
func (m *Model) find(tokens []int32) int32 {
	n := 1 + tokens[0]
	for _, t := range tokens[1:] {
		if n = m.child(State(n), t); n == 0 {
			return 0
		}
	}
	return n
}

func (m *Model) add(g *gram, link int32) {
	m.word, m.link = append(m.word, g.token), append(m.link, link)
	m.prob, m.weight = append(m.prob, g.prob), append(m.weight, g.weight)
}

// addAll makes the nodes of all grams of k words.
func (m *Model) addAll(grams []gram, k int) error {
	slices.SortStableFunc(grams, func(a, b gram) int { return cmp.Or(cmp.Compare(a.parent, b.parent), cmp.Compare(a.token, b.token)) })
	m.last = int32(len(m.word))
	for i := range grams {
		g := &grams[i]
		if i > 0 && g.parent == grams[i-1].parent && g.token == grams[i-1].token {
			return fmt.Errorf("the gram of line %d stands twice: want each once", min(g.line, grams[i-1].line))
		}
		for int32(len(m.first)) <= g.parent {
			m.first = append(m.first, int32(len(m.word)))
		}
		link := int32(0)
		for j := 1; j < k && link == 0; j++ {
			link = m.find(g.tokens[j:k])
		}
		m.add(g, link)
	}
	for int32(len(m.first)) <= m.last {
		m.first = append(m.first, int32(len(m.word)))
	}
	return nil
}

// WriteARPA writes the model in the ARPA format, with nine digits; words names its tokens.
func (m *Model) WriteARPA(w io.Writer, words []string) error {
	if len(words) != m.vocab {
		return fmt.Errorf("arpa file: %d words: want one a token, %d", len(words), m.vocab)
	}
	seen := map[string]bool{}
	for i, s := range words {
		if f := fields(s); len(f) != 1 || f[0] != s || seen[s] || strings.Contains(s, "\n") {
			return fmt.Errorf("arpa file: word %d is %q: want no blanks, and each word once", i, s)
		}
		if seen[s] = true; s == "<s>" && int32(i) != m.begin {
			return fmt.Errorf("arpa file: word %d is <s>: want that for the token that begins sentences alone", i)
		}
	}
	if m.begin != None && words[m.begin] != "<s>" {
		return fmt.Errorf("arpa file: word %d is %q: want <s> for the token that begins sentences", m.begin, words[m.begin])
	}
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "\\data\\\n")
	for k, n := range m.Grams() {
		fmt.Fprintf(b, "ngram %d=%d\n", k+1, n)
	}
	for k := 1; k <= m.order; k++ {
		fmt.Fprintf(b, "\n\\%d-grams:\n", k)
		m.writeGrams(b, words, 0, k, nil)
	}
	fmt.Fprintf(b, "\n\\end\\\n")
	return b.Flush()
}

// writeGrams writes the grams that continue a node, whose words are before, by k more.
func (m *Model) writeGrams(b *bufio.Writer, words []string, node int32, k int, before []string) {
	for c := m.first[node]; c < m.first[node+1]; c++ {
		gram := append(before, words[m.word[c]])
		if k > 1 {
			m.writeGrams(b, words, c, k-1, gram)
			continue
		}
		b.WriteString(log10(m.prob[c]))
		for i, s := range gram {
			b.WriteByte("\t "[min(i, 1)])
			b.WriteString(s)
		}
		if c < m.last && m.weight[c] != 1 {
			b.WriteByte('\t')
			b.WriteString(log10(m.weight[c]))
		}
		b.WriteByte('\n')
	}
}

func log10(x float64) string {
	if x < 1e-99 {
		return "-99"
	}
	return strconv.FormatFloat(math.Log10(x), 'g', 9, 64)
}
