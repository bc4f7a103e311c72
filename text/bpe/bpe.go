// Package bpe is a byte-level byte-pair tokeniser (Sennrich et al. 2016, arXiv:1508.07909; bytes and the split into words as in
// Radford et al. 2019): trained here, read and written in the tokenizer.json format.
//
// Every byte is a token, so that any text can be encoded and decoding gives the same bytes back.
package bpe

import (
	"fmt"
	"slices"
	"strings"
)

// Tokenizer turns text into tokens 0 to Size-1 and back. It is immutable and safe for concurrent use.
type Tokenizer struct {
	special []Special
	tokens  []string         // bytes of each token; a special token's are its name
	ids     map[string]int32 // of tokens that are not special
	bytes   [256]int32       // tokens of single bytes
	merges  []pair           // in order of rank
	rules   map[pair]rule
	plain   bool // no split into words
}

// Special is a token that stands for no text: an end, a padding.
type Special struct {
	ID   int32
	Name string
}

// pair is two neighbouring tokens.
type pair struct{ left, right int32 }

// rule says that a pair becomes one token, the sooner the lower its rank.
type rule struct{ rank, token int32 }

// Size returns the number of tokens, special ones included.
func (t *Tokenizer) Size() int { return len(t.tokens) }

// Special returns the id of the special token with that name.
func (t *Tokenizer) Special(name string) (int32, error) {
	for _, s := range t.special {
		if s.Name == name {
			return s.ID, nil
		}
	}
	var names []string
	for _, s := range t.special {
		names = append(names, s.Name)
	}
	return 0, fmt.Errorf("no special token %q: want one of %q", name, names)
}

// IsSpecial reports whether a token stands for no text.
func (t *Tokenizer) IsSpecial(id int32) bool {
	return slices.ContainsFunc(t.special, func(s Special) bool { return s.ID == id })
}

// Encode returns the tokens of text. Text that spells a special token is text: what a user types ends no sequence.
func (t *Tokenizer) Encode(text string) []int32 { return t.Append(nil, text) }

// Append appends the tokens of text to dst.
func (t *Tokenizer) Append(dst []int32, text string) []int32 {
	var m merger
	for word := range t.split(text) {
		dst = m.append(dst, t, word)
	}
	return dst
}

// Decode returns the text of tokens. Special tokens, and numbers that are no token, give none. A sequence that ends within
// a character of several bytes gives the bytes it has.
func (t *Tokenizer) Decode(ids []int32) string {
	var b strings.Builder
	for _, id := range ids {
		b.WriteString(t.Text(id))
	}
	return b.String()
}

// Text returns the bytes that a token stands for, none for a special one.
func (t *Tokenizer) Text(id int32) string {
	if id < 0 || int(id) >= len(t.tokens) || t.IsSpecial(id) {
		return ""
	}
	return t.tokens[id]
}

// build fills in what follows from tokens, special and merges, which the caller has checked.
func (t *Tokenizer) build() error {
	t.ids = make(map[string]int32, len(t.tokens))
	for id, s := range t.tokens {
		if !t.IsSpecial(int32(id)) {
			t.ids[s] = int32(id)
		}
	}
	for b := range 256 {
		id, ok := t.ids[string([]byte{byte(b)})]
		if !ok {
			return fmt.Errorf("vocabulary: byte %#02x is no token: want all 256", b)
		}
		t.bytes[b] = id
	}
	t.rules = make(map[pair]rule, len(t.merges))
	for rank, p := range t.merges {
		id, ok := t.ids[t.tokens[p.left]+t.tokens[p.right]]
		if !ok {
			return fmt.Errorf("merge %d of %q and %q: their sum is no token: want it in the vocabulary", rank, t.tokens[p.left], t.tokens[p.right])
		}
		if _, twice := t.rules[p]; twice {
			return fmt.Errorf("merge %d of %q and %q: a second time: want each once", rank, t.tokens[p.left], t.tokens[p.right])
		}
		t.rules[p] = rule{int32(rank), id}
	}
	return nil
}
