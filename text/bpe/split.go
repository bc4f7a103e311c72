package bpe

import (
	"iter"
	"strings"
	"unicode"
	"unicode/utf8"
)

// split yields the words of text, within which tokens are merged: those of GPT-2's pattern (Radford et al. 2019),
//
//	's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//
// Together they are the text. A byte that is no UTF-8 counts as a mark of its own.
func (t *Tokenizer) split(text string) iter.Seq[string] {
	if t.plain {
		return func(yield func(string) bool) {
			if text != "" {
				yield(text)
			}
		}
	}
	return words(text)
}

var contractions = []string{"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"}

func words(text string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for len(text) > 0 {
			n := wordLen(text)
			if !yield(text[:n]) {
				return
			}
			text = text[n:]
		}
	}
}

func wordLen(text string) int {
	for _, c := range contractions {
		if strings.HasPrefix(text, c) {
			return len(c)
		}
	}
	if n := run(text, space); n > 0 {
		last := lastRune(text[:n])
		switch {
		case n == len(text):
			return n
		case n > last: // leave the last blank to what follows
			return n - last
		case text[0] != ' ':
			return n
		}
		return 1 + run(text[1:], classOf(text[1:]))
	}
	return run(text, classOf(text))
}

type class uint8

const (
	mark class = iota // all that is not one of the others
	letter
	number
	space
)

func classOf(text string) class {
	r, size := utf8.DecodeRuneInString(text)
	switch {
	case r < utf8.RuneSelf:
		return ascii[r]
	case r == utf8.RuneError && size == 1:
		return mark
	case unicode.IsLetter(r):
		return letter
	case unicode.IsNumber(r):
		return number
	case unicode.IsSpace(r):
		return space
	}
	return mark
}

var ascii = func() (c [utf8.RuneSelf]class) {
	for r := range c {
		switch {
		case unicode.IsLetter(rune(r)):
			c[r] = letter
		case unicode.IsNumber(rune(r)):
			c[r] = number
		case unicode.IsSpace(rune(r)):
			c[r] = space
		}
	}
	return c
}()

// run returns the bytes of the characters of one class that text begins with.
func run(text string, c class) int {
	n := 0
	for n < len(text) && classOf(text[n:]) == c {
		_, size := utf8.DecodeRuneInString(text[n:])
		n += size
	}
	return n
}

// lastRune returns the bytes of the last character.
func lastRune(text string) int {
	_, size := utf8.DecodeLastRuneInString(text)
	return size
}

// letters spells bytes as printable characters, as tokenizer.json files do: a byte that prints in Latin-1 as itself, the others in
// order from U+0100 on.
var letters = func() (r [256]rune) {
	next := rune(256)
	for b := range r {
		if b >= '!' && b <= '~' || b >= 0xa1 && b <= 0xac || b >= 0xae {
			r[b] = rune(b)
			continue
		}
		r[b] = next
		next++
	}
	return r
}()

var unletter = func() map[rune]byte {
	m := map[rune]byte{}
	for b, r := range letters {
		m[r] = byte(b)
	}
	return m
}()

// spell writes bytes in letters.
func spell(s string) string {
	var b strings.Builder
	for i := range len(s) {
		b.WriteRune(letters[s[i]])
	}
	return b.String()
}

// unspell is spell's inverse; false for a character that stands for no byte.
func unspell(s string) (string, bool) {
	b := make([]byte, 0, len(s))
	for _, r := range s {
		x, ok := unletter[r]
		if !ok {
			return "", false
		}
		b = append(b, x)
	}
	return string(b), true
}
