// Package conll reads text that is labelled word by word in columns, the form of the CoNLL shared tasks, and scores the entities that
// its labels mark.
package conll

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// Sentence is a run of words with a label each: O, or B-type at the beginning of an entity and I-type within.
type Sentence struct {
	Words, Tags []string
}

// Document is what stands between two document marks.
type Document []Sentence

// Words returns the number of words.
func (d Document) Words() int {
	n := 0
	for _, s := range d {
		n += len(s.Words)
	}
	return n
}

// mark is the word of a line that begins a document.
const mark = "-DOCSTART-"

// Read reads lines of at least two columns, between tabs or else spaces, of which the first is a word and the last its label. Blank lines
// end a sentence, lines whose word is -DOCSTART-, whatever else they hold, a document; a file without any is one document. The end of the file ends
// both. A byte order mark at the beginning is left out.
func Read(r io.Reader) ([]Document, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	var docs []Document
	var doc Document
	var now Sentence
	columns := 0
	sentence := func() {
		if len(now.Words) > 0 {
			doc, now = append(doc, now), Sentence{}
		}
	}
	document := func() {
		sentence()
		if len(doc) > 0 {
			docs, doc = append(docs, doc), nil
		}
	}
	n := 0
	for lines.Scan() {
		n++
		line := strings.TrimRight(lines.Text(), "\r")
		if n == 1 {
			line = strings.TrimPrefix(line, "\ufeff")
		}
		if strings.Contains(line, "\r") {
			return nil, fmt.Errorf("line %d: a carriage return within it: want lines that end in \\n or \\r\\n", n)
		}
		if strings.TrimSpace(line) == "" {
			sentence()
			continue
		}
		cells := split(line)
		if cells[0] == mark {
			document()
			continue
		}
		if columns == 0 {
			columns = len(cells)
		}
		if len(cells) != columns || columns < 2 {
			return nil, fmt.Errorf("line %d: %d columns: want %d", n, len(cells), max(columns, 2))
		}
		word, tag := cells[0], cells[len(cells)-1]
		if word == "" {
			return nil, fmt.Errorf("line %d: no word in the first column: want one", n)
		}
		if _, _, err := parseTag(tag); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		now.Words, now.Tags = append(now.Words, word), append(now.Tags, tag)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("line %d: %w", n+1, err)
	}
	document()
	return docs, nil
}

// split cuts a line at its tabs, or at runs of spaces where it has none. Other white space may be part of a word.
func split(line string) []string {
	if strings.Contains(line, "\t") {
		return strings.Split(line, "\t")
	}
	return strings.FieldsFunc(line, func(r rune) bool { return r == ' ' })
}

// parseTag returns the parts of a label.
func parseTag(tag string) (kind byte, entity string, err error) {
	if tag == "O" {
		return 'O', "", nil
	}
	kinds, entity, ok := strings.Cut(tag, "-")
	if !ok || entity == "" || kinds != "B" && kinds != "I" {
		return 0, "", fmt.Errorf("label %q: want O, B-type or I-type", tag)
	}
	return kinds[0], entity, nil
}
