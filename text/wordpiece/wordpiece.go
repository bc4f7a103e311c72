// Package wordpiece cuts text into pieces of words: a vocabulary is learned from text by merging the most frequent pair of neighbours again and
// again (Sennrich et al. 2016, arXiv:1508.07909), within words, and a word is cut by taking the longest piece that fits, from the left
// (Wu et al. 2016, arXiv:1609.08144). Pieces that go on with a word are written ##piece, and vocabularies one piece a line,
// as BERT's are (Devlin et al. 2019, arXiv:1810.04805).
package wordpiece

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// The special pieces, which no text is cut into. A learned vocabulary begins with them, in this order.
const (
	Pad     = "[PAD]"
	Unknown = "[UNK]"
	Class   = "[CLS]"
	End     = "[SEP]"
	Mask    = "[MASK]"
)

var specials = []string{Pad, Unknown, Class, End, Mask}

const (
	inner    = "##" // before a piece that goes on with a word
	longest  = 100  // characters of a word; a longer one is unknown
	maxPiece = 1 << 20
)

// Vocabulary is a list of pieces. It is immutable and safe for concurrent use.
type Vocabulary struct {
	// Ids of the special pieces.
	Pad, Unknown, Class, End, Mask int32

	pieces []string
	starts map[string]int32 // pieces that begin a word
	inners map[string]int32 // pieces that go on with one, without the mark
	bytes  int              // of the longest piece
}

// New returns the vocabulary of these pieces, whose ids are their indices. The special pieces must be among them, and none
// twice.
func New(pieces []string) (*Vocabulary, error) {
	if len(pieces) > maxPiece {
		return nil, fmt.Errorf("wordpiece: %d pieces: want at most %d", len(pieces), maxPiece)
	}
	v := &Vocabulary{pieces: slices.Clone(pieces), starts: map[string]int32{}, inners: map[string]int32{}}
	special := map[string]*int32{Pad: &v.Pad, Unknown: &v.Unknown, Class: &v.Class, End: &v.End, Mask: &v.Mask}
	found := map[string]bool{}
	for i, p := range pieces {
		if id := special[p]; id != nil && !found[p] {
			*id, found[p] = int32(i), true
			continue
		}
		text, at := p, v.starts
		if t, ok := strings.CutPrefix(p, inner); ok && t != "" {
			text, at = t, v.inners
		}
		if _, twice := at[text]; twice || text == "" || special[p] != nil || strings.ContainsAny(p, "\r\n") {
			return nil, fmt.Errorf("wordpiece: piece %d is %q: want pieces of one line, none empty or given twice", i, p)
		}
		at[text] = int32(i)
		v.bytes = max(v.bytes, len(text))
	}
	for _, s := range specials {
		if !found[s] {
			return nil, fmt.Errorf("wordpiece: no piece %s: want %s", s, strings.Join(specials, ", "))
		}
	}
	return v, nil
}

// Parse reads a vocabulary of one piece a line.
func Parse(text string) (*Vocabulary, error) {
	var pieces []string
	for line := range strings.Lines(text) {
		pieces = append(pieces, strings.TrimRight(line, "\r\n"))
	}
	return New(pieces)
}

// String writes the vocabulary one piece a line, as Parse reads it.
func (v *Vocabulary) String() string {
	var b strings.Builder
	for _, p := range v.pieces {
		b.WriteString(p + "\n")
	}
	return b.String()
}

// Size returns the number of pieces.
func (v *Vocabulary) Size() int { return len(v.pieces) }

// Piece returns the text of a piece, with the mark of one that goes on with a word.
func (v *Vocabulary) Piece(id int32) string { return v.pieces[id] }

// Special reports whether a piece is one of the special ones.
func (v *Vocabulary) Special(id int32) bool {
	return id == v.Pad || id == v.Unknown || id == v.Class || id == v.End || id == v.Mask
}

// Encode returns the pieces of a text, without special ones but Unknown.
func (v *Vocabulary) Encode(text string) []int32 {
	var ids []int32
	for w := range Words(text) {
		ids = v.appendWord(ids, w)
	}
	return ids
}

// EncodeWord returns the pieces of one word of a text that others have cut into words: at least one piece, of which the first has the word's label.
// The word may come to several of Words, and to Unknown when nothing of it is left.
func (v *Vocabulary) EncodeWord(word string) []int32 {
	ids := v.Encode(word)
	if len(ids) == 0 {
		ids = append(ids, v.Unknown)
	}
	return ids
}

// appendWord appends the pieces of one of Words: Unknown when a part of it is no piece.
func (v *Vocabulary) appendWord(ids []int32, word string) []int32 {
	before := len(ids)
	if utf8.RuneCountInString(word) > longest {
		return append(ids, v.Unknown)
	}
	at := v.starts
	for rest := word; rest != ""; {
		n := min(len(rest), v.bytes)
		for ; n > 0; n-- { // never ends within a character that is no piece by itself: pieces are whole characters
			if id, ok := at[rest[:n]]; ok {
				ids = append(ids, id)
				break
			}
		}
		if n == 0 {
			return append(ids[:before], v.Unknown)
		}
		rest, at = rest[n:], v.inners
	}
	return ids
}

// Decode writes pieces as text, with a space between words.
func (v *Vocabulary) Decode(ids []int32) string {
	var b strings.Builder
	for _, id := range ids {
		p, ok := strings.CutPrefix(v.pieces[id], inner)
		if !ok && b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(p)
	}
	return b.String()
}
