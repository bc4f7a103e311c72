package results

import (
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/pkg/twwidth"
	"github.com/olekukonko/tablewriter/renderer"
	"github.com/olekukonko/tablewriter/tw"
)

// Format is a form of output for tables.
type Format string

// The formats of tables.
const (
	Text     Format = "text"
	Markdown Format = "markdown"
	CSV      Format = "csv"
	HTML     Format = "html"
)

// ParseFormat returns the format of that name.
func ParseFormat(s string) (Format, error) {
	f := Format(s)
	if !slices.Contains([]Format{Text, Markdown, CSV, HTML}, f) {
		return "", fmt.Errorf("format %q: want one of text, markdown, csv, html", s)
	}
	return f, nil
}

// Sheet is a table of text, ready to be printed. Header and cells appear as they are, whatever
// they hold; a format that cannot hold a character escapes it so that it reads back.
type Sheet struct {
	Title  string // a line above; not in CSV
	Header []string
	Rows   [][]string
	Left   int      // leading columns that hold words, aligned left; the others are aligned right
	Notes  []string // lines below; not in CSV
}

// Write draws the sheet.
func (s *Sheet) Write(w io.Writer, f Format) error {
	for i, r := range s.Rows {
		if len(r) != len(s.Header) {
			return fmt.Errorf("table %s: row %d has %d cells: want %d, as the header", s.Title, i, len(r), len(s.Header))
		}
	}
	switch f {
	case CSV:
		return s.writeCSV(w)
	case Markdown:
		return s.draw(w, f, escapeMarkdown, tablewriter.WithRenderer(renderer.NewMarkdown()))
	case HTML:
		return s.draw(w, f, escapeHTML, tablewriter.WithRenderer(renderer.NewHTML(renderer.HTMLConfig{})))
	case Text:
		return s.draw(w, f, escapeText)
	}
	_, err := ParseFormat(string(f))
	return err
}

// dropEmpty leaves out those of the first n columns that are empty: keys that none of these benchmarks has.
func (s *Sheet) dropEmpty(n int) {
	for i := n - 1; i >= 0; i-- {
		if !slices.ContainsFunc(s.Rows, func(r []string) bool { return r[i] != "" }) {
			s.dropColumn(i)
		}
	}
}

// dropColumn removes one of the columns that hold words.
func (s *Sheet) dropColumn(i int) {
	s.Header = slices.Delete(s.Header, i, i+1)
	for j := range s.Rows {
		s.Rows[j] = slices.Delete(s.Rows[j], i, i+1)
	}
	s.Left--
}

func (s *Sheet) writeCSV(w io.Writer) error {
	cw := csv.NewWriter(w)
	if err := cw.Write(s.Header); err != nil {
		return err
	}
	return cw.WriteAll(s.Rows)
}

func (s *Sheet) draw(w io.Writer, f Format, escape func(string) string, opts ...tablewriter.Option) error {
	// Ambiguous runes (µ, ±, the lines of the table) are one column wide whatever the locale says.
	twwidth.SetOptions(twwidth.Options{})
	align := make(tw.Alignment, len(s.Header))
	for i := range align {
		align[i] = tw.AlignRight
		if i < s.Left {
			align[i] = tw.AlignLeft
		}
	}
	var b strings.Builder
	t := tablewriter.NewTable(&b, append(opts,
		tablewriter.WithHeaderAutoFormat(tw.Off), tablewriter.WithAlignment(align),
		tablewriter.WithHeaderAutoWrap(tw.WrapNone), tablewriter.WithRowAutoWrap(tw.WrapNone),
		tablewriter.WithTrimSpace(tw.Off))...)
	t.Header(escapeAll(s.Header, escape))
	for _, r := range s.Rows {
		if err := t.Append(escapeAll(r, escape)); err != nil {
			return err
		}
	}
	if err := t.Render(); err != nil {
		return err
	}
	para, item := "%s\n", "%s\n"
	switch f {
	case Markdown:
		item = "- %s\n"
	case HTML:
		para, item = "<p>%s</p>\n", "<p>%s</p>\n"
	}
	var out strings.Builder
	if s.Title != "" {
		fmt.Fprintf(&out, para+"\n", escape(s.Title))
	}
	out.WriteString(strings.TrimRight(b.String(), "\n") + "\n")
	for i, n := range s.Notes {
		if i == 0 {
			out.WriteString("\n")
		}
		fmt.Fprintf(&out, item, escape(n))
	}
	_, err := io.WriteString(w, out.String())
	return err
}

func escapeAll(cells []string, escape func(string) string) []any {
	out := make([]any, len(cells))
	for i, c := range cells {
		out[i] = escape(c)
	}
	return out
}

// escapeText quotes, as Go does, what would break a line or could not be told from a quoted cell.
func escapeText(s string) string {
	if s != strings.TrimSpace(s) || strings.HasPrefix(s, `"`) || !utf8.ValidString(s) ||
		strings.ContainsFunc(s, func(r rune) bool { return r != ' ' && !unicode.IsGraphic(r) }) {
		return strconv.Quote(s)
	}
	return s
}

var markdown = strings.NewReplacer(`\`, `\\`, "|", `\|`, "&", "&amp;", "<", "&lt;", "\r\n", "<br>", "\n", "<br>", "\r", "<br>", "\t", "&#9;")

func escapeMarkdown(s string) string { return outerSpaces(markdown.Replace(s)) }

var htmlText = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&#34;", "\r\n", "<br>", "\n", "<br>", "\r", "<br>", "\t", "&#9;")

func escapeHTML(s string) string { return outerSpaces(htmlText.Replace(s)) }

// outerSpaces keeps a first and a last space from being taken for padding.
func outerSpaces(s string) string {
	if strings.HasPrefix(s, " ") {
		s = "&#32;" + s[1:]
	}
	if strings.HasSuffix(s, " ") {
		s = s[:len(s)-1] + "&#32;"
	}
	return s
}
