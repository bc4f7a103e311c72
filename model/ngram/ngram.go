// Package ngram holds n-gram language models with interpolated modified Kneser-Ney smoothing, over bytes, words or any other tokens, and
// their ARPA files.
//
// A model is a trie in sorted arrays. A gram's entry holds the probability of its last token after the others, all lower orders
// mixed in, and its weight as a context, so that a probability is one look-up where the gram was seen:
//
//	p(w | h) = prob(h w)            if the gram h w has an entry
//	         = weight(h)·p(w | h')  else, with h' the context h without its first token
package ngram

import (
	"fmt"
	"math"
	"slices"
)

// MaxOrder is the highest order of a model: how many tokens a gram has.
const MaxOrder = 6

// None is no token at all.
const None int32 = -1

// Model is a language model. Values are immutable and safe for concurrent use.
type Model struct {
	// Discounts are those of grams of 1 to Order tokens: of counts 1, 2, and 3 or more. A model that was read has none.
	Discounts [][3]float64

	order, vocab int
	begin        int32 // the token that starts a sentence and is never predicted, or None

	// Node 0 is the empty gram, nodes 1 to vocab are single tokens in order, then come the grams of two tokens and so on, sorted by
	// their tokens. The grams that continue node i by one token are nodes first[i] to first[i+1]-1.
	word   []int32 // last token
	first  []int32
	link   []int32 // the gram without its first token, or its longest end that has an entry
	prob   []float64
	weight []float64
	last   int32 // first node of the highest order
}

// Order returns the number of tokens of the longest grams: the context and the token that it predicts.
func (m *Model) Order() int { return m.order }

// Vocab returns the number of tokens, from 0 on.
func (m *Model) Vocab() int { return m.vocab }

// Begin returns the token that starts a sentence, None if there is none.
func (m *Model) Begin() int32 { return m.begin }

// Grams returns how many grams of 1 to Order tokens have an entry.
func (m *Model) Grams() []int {
	n := make([]int, m.order)
	lo, hi := int32(0), int32(1)
	for k := range n {
		lo, hi = m.first[lo], m.first[hi]
		n[k] = int(hi - lo)
	}
	return n
}

// State is what a model knows of the tokens before: the longest end of them that has an entry. The zero State is no context.
type State int32

// child returns the node that continues s by token, 0 if there is none.
func (m *Model) child(s State, token int32) int32 {
	lo, hi := m.first[s], m.first[s+1]
	if s == 0 {
		return 1 + token
	}
	i, ok := slices.BinarySearch(m.word[lo:hi], token)
	if !ok {
		return 0
	}
	return lo + int32(i)
}

// Next returns the probability of token, 0 to Vocab-1, after the context s, and the context after it.
func (m *Model) Next(s State, token int32) (State, float64) {
	w := 1.0
	c := m.child(s, token)
	for c == 0 {
		w *= m.weight[s]
		s = State(m.link[s])
		c = m.child(s, token)
	}
	p := w * m.prob[c]
	if c >= m.last {
		c = m.link[c]
	}
	return State(c), p
}

// Distribution writes the probability of every token after the context s to p, which has room for Vocab of them.
func (m *Model) Distribution(s State, p []float64) {
	if s != 0 {
		m.Distribution(State(m.link[s]), p)
		for i := range p {
			p[i] *= m.weight[s]
		}
	}
	for c := m.first[s]; c < m.first[s+1]; c++ {
		p[m.word[c]] = m.prob[c]
	}
}

// Nats returns -Σ ln p of the tokens of a document, and how many tokens that is: all of them, but a first one that is Begin.
func (m *Model) Nats(tokens []int32) (nats float64, n int) {
	s := State(0)
	for i, t := range tokens {
		var p float64
		s, p = m.Next(s, t)
		if i > 0 || t != m.begin {
			nats, n = nats-math.Log(p), n+1
		}
	}
	return nats, n
}

// Perplexity returns e to the mean of -ln p over the tokens of all documents.
func (m *Model) Perplexity(docs ...[]int32) (float64, error) {
	nats, n := 0.0, 0
	for i, d := range docs {
		if err := check(d, m.vocab, m.begin); err != nil {
			return 0, fmt.Errorf("ngram: document %d: %w", i, err)
		}
		x, k := m.Nats(d)
		nats, n = nats+x, n+k
	}
	if n == 0 {
		return 0, fmt.Errorf("ngram: perplexity of no tokens: want at least one")
	}
	return math.Exp(nats / float64(n)), nil
}

// check compares a document with a vocabulary.
func check(tokens []int32, vocab int, begin int32) error {
	for i, t := range tokens {
		if t < 0 || int(t) >= vocab {
			return fmt.Errorf("token %d is %d: want 0 to %d", i, t, vocab-1)
		}
		if t == begin && i > 0 {
			return fmt.Errorf("token %d is the one that begins a sentence: want it first", i)
		}
	}
	return nil
}

// Bytes returns the bytes of a text as tokens, for a model of 256.
func Bytes(text []byte) []int32 {
	tokens := make([]int32, len(text))
	for i, b := range text {
		tokens[i] = int32(b)
	}
	return tokens
}
