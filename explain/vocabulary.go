package explain

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"attnbench/text/bpe"
)

// Vocabulary turns text into a model's tokens, and tokens into their text.
type Vocabulary struct {
	bpe    *bpe.Tokenizer
	pieces map[string]int32 // by text
	names  map[int32]string
	from   string // the file of the pieces
}

// Bytes is the vocabulary of models of bytes.
func Bytes() *Vocabulary { return new(Vocabulary) }

// ReadVocabulary reads a vocabulary of size tokens: a tokenizer.json of byte-level BPE, or a table with tabs whose first line names
// columns token and piece, the pieces in quotes or bare. Text is spelled with the longest pieces of a table, from left to right, which need not
// be the split that the model was trained with.
func ReadVocabulary(path string, size int) (*Vocabulary, error) {
	v, err := readVocabulary(path, size)
	if err != nil {
		return nil, fmt.Errorf("vocabulary %s: %w", path, err)
	}
	return v, nil
}

func readVocabulary(path string, size int) (*Vocabulary, error) {
	if filepath.Ext(path) == ".json" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		t, err := bpe.Read(f)
		if err == nil && t.Size() > size {
			err = fmt.Errorf("%d tokens: want at most the model's %d", t.Size(), size)
		}
		return &Vocabulary{bpe: t}, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	v := &Vocabulary{pieces: map[string]int32{}, names: map[int32]string{}, from: path}
	return v, v.table(string(text), size)
}

func (v *Vocabulary) table(text string, size int) error {
	var id, piece, columns int
	for n, line := range strings.Split(strings.TrimRight(text, "\r\n"), "\n") {
		cells := strings.Split(strings.TrimSuffix(line, "\r"), "\t")
		if n == 0 {
			id, piece, columns = slices.Index(cells, "token"), slices.Index(cells, "piece"), len(cells)
			if id < 0 || piece < 0 {
				return fmt.Errorf("line 1: columns %q: want token and piece among them", cells)
			}
			continue
		}
		if len(cells) != columns {
			return fmt.Errorf("line %d: %d columns: want %d, as the first line", n+1, len(cells), columns)
		}
		x, err := strconv.Atoi(cells[id])
		if err != nil || x < 0 || x >= size {
			return fmt.Errorf("line %d: token %q: want 0 to %d", n+1, cells[id], size-1)
		}
		s := cells[piece]
		if q, err := strconv.Unquote(s); err == nil {
			s = q
		}
		if old, ok := v.pieces[s]; ok && old != int32(x) {
			return fmt.Errorf("line %d: piece %q is token %d, and was %d: want one", n+1, s, x, old)
		}
		if s != "" {
			v.pieces[s] = int32(x)
		}
		v.names[int32(x)] = s
	}
	return nil
}

// Encode returns the tokens of text.
func (v *Vocabulary) Encode(text string) ([]int32, error) {
	var list []int32
	switch {
	case v.bpe != nil:
		return v.bpe.Encode(text), nil
	case v.pieces == nil:
		for i := range len(text) {
			list = append(list, int32(text[i]))
		}
		return list, nil
	}
	for rest := text; rest != ""; {
		n := len(rest)
		for n > 0 {
			if id, ok := v.pieces[rest[:n]]; ok {
				list = append(list, id)
				break
			}
			n--
		}
		if n == 0 {
			return nil, fmt.Errorf("text: nothing in %s spells %.12q at byte %d: want text of its pieces", v.from, rest, len(text)-len(rest))
		}
		rest = rest[n:]
	}
	return list, nil
}

// Name returns the text of a token, or its number when that is not known.
func (v *Vocabulary) Name(id int32) string {
	switch {
	case v == nil:
	case v.bpe != nil:
		if s := v.bpe.Text(id); s != "" {
			return s
		}
	case v.pieces == nil:
		return string(rune(id))
	default:
		if s, ok := v.names[id]; ok {
			return s
		}
	}
	return fmt.Sprint(id)
}
