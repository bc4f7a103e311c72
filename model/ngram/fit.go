package ngram

import (
	"fmt"
	"math"
)

// Fit returns the model of the given order, 1 to MaxOrder, over tokens 0 to vocab-1 that is fitted to the documents. Grams do not reach
// across documents. begin, unless None, is the token that a document may start with: it is context only, and predicted with
// probability 0. Below the single tokens stands 1/vocab, begin not counted.
func Fit(kind Smoothing, order, vocab int, begin int32, docs ...[]int32) (*Model, error) {
	if order < 1 || order > MaxOrder {
		return nil, fmt.Errorf("ngram: order %d: want 1 to %d", order, MaxOrder)
	}
	if vocab < 1 || vocab > math.MaxInt32-1 || begin < None || int(begin) >= vocab || begin == 0 && vocab == 1 {
		return nil, fmt.Errorf("ngram: %d tokens, begin %d: want at least 1 beside begin, and begin among them or %d", vocab, begin, None)
	}
	size := 0
	for i, d := range docs {
		if err := check(d, vocab, begin); err != nil {
			return nil, fmt.Errorf("ngram: document %d: %w", i, err)
		}
		size += len(d) + 1
	}
	if int64(size)*int64(order)+int64(vocab) >= math.MaxInt32 { // bounds the number of grams
		return nil, fmt.Errorf("ngram: %d tokens of text at order %d: want fewer than 2^31 grams", size, order)
	}
	c := counter{Model: &Model{order: order, vocab: vocab, begin: begin}, raw: kind == WittenBell}
	c.text = make([]int32, 0, size)
	for _, d := range docs {
		c.text = append(append(c.text, d...), None)
	}
	c.tokens()
	for k := 1; k < order; k++ {
		c.longer(k)
	}
	m := c.Model
	for len(m.first) < len(m.word)+1 { // nothing continues the longest
		m.first = append(m.first, int32(len(m.word)))
	}
	m.smooth(kind, c.count)
	return m, nil
}

// counter builds the trie from the shortest grams up.
type counter struct {
	*Model
	text    []int32 // documents, None after each
	sorted  []int32 // positions in the text, by the token there
	ids     []int32 // of each position: the node of the gram that starts there, 0 where a document ends before it does
	longIDs []int32 // the same of grams one longer
	perm    []int32
	raw     bool    // counts are of occurrences at every order
	start   int32   // first node of the longest grams so far
	count   []int32 // of each node: how often the gram occurs or, below Kneser and Ney's highest order, after how many different tokens
}

func (c *counter) add(token, link int32) int32 {
	c.word = append(c.word, token)
	c.link = append(c.link, link)
	c.count = append(c.count, 0)
	return int32(len(c.word) - 1)
}

// tokens makes the nodes of single tokens, seen or not, and sorts the positions by token.
func (c *counter) tokens() {
	c.add(None, 0)
	for t := range c.vocab {
		c.add(int32(t), 0)
	}
	c.first, c.start, c.last = []int32{1}, 1, 1
	n := len(c.text)
	c.ids, c.longIDs, c.perm = make([]int32, n), make([]int32, n), make([]int32, n)
	ends := make([]int32, c.vocab+1) // where the positions of a token end, once all are placed
	for i, t := range c.text {
		if t == None {
			continue
		}
		c.ids[i] = 1 + t
		ends[t+1]++
		if (c.raw || c.order == 1) && t != c.begin { // which is never predicted
			c.count[1+t]++
		}
	}
	total := int32(0)
	for t, k := range ends {
		total += k
		ends[t] = total
	}
	c.sorted = make([]int32, total)
	for i, t := range c.text {
		if t != None {
			c.sorted[ends[t]] = int32(i)
			ends[t]++
		}
	}
}

// longer makes the nodes of k+1 tokens. Of positions sorted by the last token of the gram that starts there, a counting sort by the
// node of the others puts equal grams side by side, and all in order.
func (c *counter) longer(k int) {
	lo, hi := c.start, int32(len(c.word))
	ends := make([]int32, hi-lo+1)
	valid := func(end int32) (at int32, ok bool) {
		at = end - int32(k)
		return at, at >= 0 && c.ids[at] != 0
	}
	for _, end := range c.sorted {
		if at, ok := valid(end); ok {
			ends[c.ids[at]-lo+1]++
		}
	}
	total := int32(0)
	for i, n := range ends {
		total += n
		ends[i] = total
	}
	for _, end := range c.sorted {
		if at, ok := valid(end); ok {
			e := &ends[c.ids[at]-lo]
			c.perm[*e] = at
			*e++
		}
	}
	c.start, c.last = hi, hi
	clear(c.longIDs)
	occurs := c.raw || k+1 == c.order
	parent, node := int32(0), int32(0)
	for _, at := range c.perm[:total] {
		token := c.text[at+int32(k)]
		if p := c.ids[at]; node == 0 || p != parent || c.word[node] != token {
			for int32(len(c.first)) <= p {
				c.first = append(c.first, int32(len(c.word)))
			}
			link := c.ids[at+1]
			parent, node = p, c.add(token, link)
			if !c.raw {
				c.count[link]++
			}
		}
		c.longIDs[at] = node
		if occurs || c.text[at] == c.begin {
			c.count[node]++
		}
	}
	for int32(len(c.first)) < hi {
		c.first = append(c.first, int32(len(c.word)))
	}
	c.ids, c.longIDs = c.longIDs, c.ids
}
