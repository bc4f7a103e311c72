package metric

import (
	"regexp"
	"strings"
	"unicode"
)

// tokenizers by the name that a signature has.
var tokenizers = map[string]func(string) []string{"13a": tokenize13a, "zh": tokenizeZh, "none": fields}

// isSpace is Python's: that of Unicode and the four separators of ASCII.
func isSpace(r rune) bool { return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f }

func fields(line string) []string { return strings.FieldsFunc(line, isSpace) }

// tokenize13a splits as NIST's mteval-v13a.pl does, the tokenisation of WMT.
func tokenize13a(line string) []string {
	line = strings.ReplaceAll(line, "<skipped>", "")
	line = strings.ReplaceAll(line, "-\n", "")
	line = strings.ReplaceAll(line, "\n", " ")
	for _, e := range [][2]string{{"&quot;", `"`}, {"&amp;", "&"}, {"&lt;", "<"}, {"&gt;", ">"}} { // one after another: &amp;lt; is <
		line = strings.ReplaceAll(line, e[0], e[1])
	}
	return western(" " + line + " ")
}

// rules are mteval's for Western languages: marks stand alone; a full stop or comma does unless between digits, a hyphen if behind a digit.
var rules = []struct {
	find    *regexp.Regexp
	replace string
}{
	{regexp.MustCompile("[{-~\\[-` -&(-+:-@/]"), " $0 "},
	{regexp.MustCompile(`([^0-9])([.,])`), "$1 $2 "},
	{regexp.MustCompile(`([.,])([^0-9])`), " $1 $2"},
	{regexp.MustCompile(`([0-9])(-)`), "$1 $2 "},
}

func western(line string) []string {
	for _, r := range rules {
		line = r.find.ReplaceAllString(line, r.replace)
	}
	return fields(line)
}

// chinese are the characters that sacreBLEU's zh tokenisation takes for words of their own. Its list has the ranges of two planes spelled with four
// digits; as its program reads them they are U+2001 to U+2A6D, typographic marks among them, and that is what every published score has.
var chinese = &unicode.RangeTable{R16: []unicode.Range16{
	{Lo: 0x2001, Hi: 0x2a6d, Stride: 1}, {Lo: 0x2e80, Hi: 0x2fdf, Stride: 1}, {Lo: 0x2ff0, Hi: 0x303f, Stride: 1},
	{Lo: 0x3100, Hi: 0x312f, Stride: 1}, {Lo: 0x31a0, Hi: 0x31bf, Stride: 1}, {Lo: 0x31c0, Hi: 0x31ef, Stride: 1},
	{Lo: 0x3200, Hi: 0x33ff, Stride: 1}, {Lo: 0x3400, Hi: 0x4db5, Stride: 1}, {Lo: 0x4e00, Hi: 0x9fbb, Stride: 1},
	{Lo: 0xf900, Hi: 0xfa2d, Stride: 1}, {Lo: 0xfa30, Hi: 0xfa6a, Stride: 1}, {Lo: 0xfa70, Hi: 0xfad9, Stride: 1},
	{Lo: 0xfe10, Hi: 0xfe1f, Stride: 1}, {Lo: 0xfe30, Hi: 0xfe4f, Stride: 1}, {Lo: 0xff00, Hi: 0xffef, Stride: 1},
}}

// tokenizeZh splits Chinese characters from each other and the rest as 13a does, entities apart.
func tokenizeZh(line string) []string {
	var b strings.Builder
	for _, r := range strings.TrimFunc(line, isSpace) {
		if unicode.Is(chinese, r) {
			b.WriteByte(' ')
			b.WriteRune(r)
			b.WriteByte(' ')
			continue
		}
		b.WriteRune(r)
	}
	return western(b.String())
}
