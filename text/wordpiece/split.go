package wordpiece

import (
	"iter"
	"strings"
	"unicode"
	"unicode/utf8"
)

// fold writes quotes and dashes as ASCII has them, so that two editions of a text come to the same pieces.
var fold = map[rune]rune{
	'‘': '\'', '’': '\'', '‚': '\'', '‛': '\'', '′': '\'', '`': '\'', '´': '\'',
	'“': '"', '”': '"', '„': '"', '‟': '"', '″': '"', '«': '"', '»': '"',
	'‐': '-', '‑': '-', '‒': '-', '–': '-', '—': '-', '―': '-', '−': '-',
}

// Words cuts text into its words: runs of letters, marks and numbers, and each other character by itself, as BERT's basic
// tokeniser does. Chinese characters are words by themselves too. Case is kept; quotes and dashes are folded to
// ASCII, a run of dashes to one; white space, control characters and bytes that are no UTF-8 are left out.
func Words(text string) iter.Seq[string] {
	return func(yield func(string) bool) {
		var word []byte
		flush := func() bool {
			w := string(word)
			word = word[:0]
			return w == "" || yield(w)
		}
		dash := false // the word before was one
		for _, r := range text {
			if f, ok := fold[r]; ok {
				r = f
			}
			again := dash && r == '-'
			dash = r == '-'
			switch {
			case again || r == utf8.RuneError || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Cc, r) && !unicode.IsSpace(r):
			case unicode.IsSpace(r):
				if !flush() {
					return
				}
			case alone(r):
				if !flush() || !yield(string(r)) {
					return
				}
			default:
				word = utf8.AppendRune(word, r)
			}
		}
		flush()
	}
}

// alone reports whether a character is a word by itself.
func alone(r rune) bool {
	if r < utf8.RuneSelf {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9')
	}
	return !unicode.IsLetter(r) && !unicode.IsMark(r) && !unicode.IsNumber(r) || unicode.Is(unicode.Han, r)
}

// Fold returns text with quotes and dashes as ASCII has them, for others that read the same text.
func Fold(text string) string {
	return strings.Map(func(r rune) rune {
		if f, ok := fold[r]; ok {
			return f
		}
		return r
	}, text)
}
