package bpe

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// maxFile bounds what Read takes: the largest published files of this kind have about 20 MB.
const maxFile = 1 << 26

// file is the part of tokenizer.json that this package knows; what it must not overlook is raw.
type file struct {
	Truncation    json.RawMessage `json:"truncation"`
	Padding       json.RawMessage `json:"padding"`
	AddedTokens   []addedToken    `json:"added_tokens"`
	Normalizer    json.RawMessage `json:"normalizer"`
	PreTokenizer  *byteLevel      `json:"pre_tokenizer"`
	PostProcessor *byteLevel      `json:"post_processor"`
	Decoder       *byteLevel      `json:"decoder"`
	Model         *modelFile      `json:"model"`
}

type addedToken struct {
	ID      int32  `json:"id"`
	Content string `json:"content"`
	Special bool   `json:"special"`
}

type byteLevel struct {
	Type           string `json:"type"`
	AddPrefixSpace bool   `json:"add_prefix_space"`
	UseRegex       *bool  `json:"use_regex"`
}

type modelFile struct {
	Type         string            `json:"type"`
	Dropout      *float64          `json:"dropout"`
	UnkToken     *string           `json:"unk_token"`
	Prefix       *string           `json:"continuing_subword_prefix"`
	Suffix       *string           `json:"end_of_word_suffix"`
	ByteFallback bool              `json:"byte_fallback"`
	IgnoreMerges bool              `json:"ignore_merges"`
	Vocab        map[string]int32  `json:"vocab"`
	Merges       []json.RawMessage `json:"merges"`
}

// Read reads a tokenizer.json file with the model BPE and ByteLevel before and behind it. What it cannot do as the file says, it
// refuses.
func Read(r io.Reader) (*Tokenizer, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("tokenizer: more than %d bytes: want a smaller file", maxFile)
	}
	var f file
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	t, err := f.tokenizer()
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	return t, nil
}

func isNull(m json.RawMessage) bool { return len(m) == 0 || string(m) == "null" }

func (f *file) tokenizer() (*Tokenizer, error) {
	t := &Tokenizer{}
	if err := f.settings(t); err != nil {
		return nil, err
	}
	m := f.Model
	switch {
	case m == nil || m.Type != "BPE" && m.Type != "":
		return nil, fmt.Errorf("model: want type BPE")
	case m.Dropout != nil && *m.Dropout != 0:
		return nil, fmt.Errorf("model: dropout %v: want none", *m.Dropout)
	case m.UnkToken != nil && *m.UnkToken != "":
		return nil, fmt.Errorf("model: unk_token %q: want none, since every byte is a token", *m.UnkToken)
	case m.Prefix != nil && *m.Prefix != "":
		return nil, fmt.Errorf("model: continuing_subword_prefix %q: want none", *m.Prefix)
	case m.Suffix != nil && *m.Suffix != "":
		return nil, fmt.Errorf("model: end_of_word_suffix %q: want none", *m.Suffix)
	case m.ByteFallback:
		return nil, fmt.Errorf("model: byte_fallback: want a byte-level vocabulary")
	case m.IgnoreMerges:
		return nil, fmt.Errorf("model: ignore_merges: want false")
	}
	if err := f.vocabulary(t); err != nil {
		return nil, err
	}
	for i, raw := range m.Merges {
		p, err := f.merge(t, raw)
		if err != nil {
			return nil, fmt.Errorf("merge %d: %w", i, err)
		}
		t.merges = append(t.merges, p)
	}
	return t, t.build()
}

func (f *file) settings(t *Tokenizer) error {
	for _, x := range []struct {
		name string
		raw  json.RawMessage
	}{{"truncation", f.Truncation}, {"padding", f.Padding}, {"normalizer", f.Normalizer}} {
		if !isNull(x.raw) {
			return fmt.Errorf("%s: want null", x.name)
		}
	}
	for _, x := range []struct {
		name   string
		b      *byteLevel
		wanted bool
	}{{"pre_tokenizer", f.PreTokenizer, true}, {"post_processor", f.PostProcessor, false}, {"decoder", f.Decoder, true}} {
		switch {
		case x.b == nil && !x.wanted:
		case x.b == nil || x.b.Type != "ByteLevel":
			return fmt.Errorf("%s: want type ByteLevel", x.name)
		}
	}
	if f.PreTokenizer.AddPrefixSpace {
		return fmt.Errorf("pre_tokenizer: add_prefix_space: want false")
	}
	t.plain = f.PreTokenizer.UseRegex != nil && !*f.PreTokenizer.UseRegex
	return nil
}

// vocabulary takes over tokens and special tokens, whose numbers must be 0 to n-1, each once.
func (f *file) vocabulary(t *Tokenizer) error {
	names := map[int32]string{}
	set := func(id int32, name string) error {
		if old, taken := names[id]; taken && old != name {
			return fmt.Errorf("tokens %q and %q: both have number %d: want distinct numbers", min(old, name), max(old, name), id)
		}
		names[id] = name
		return nil
	}
	for _, a := range f.AddedTokens {
		if !a.Special {
			return fmt.Errorf("added token %q: not special: want special ones only", a.Content)
		}
		if a.Content == "" || slices.ContainsFunc(t.special, func(s Special) bool { return s.Name == a.Content }) {
			return fmt.Errorf("added token %q: want distinct names that are not empty", a.Content)
		}
		if err := set(a.ID, a.Content); err != nil {
			return err
		}
		t.special = append(t.special, Special{a.ID, a.Content})
	}
	slices.SortFunc(t.special, func(a, b Special) int { return int(a.ID) - int(b.ID) })
	for name, id := range f.Model.Vocab {
		if own, err := t.Special(name); err == nil && own != id {
			return fmt.Errorf("token %q: number %d in the vocabulary, %d among the added tokens: want one", name, id, own)
		}
		if err := set(id, name); err != nil {
			return err
		}
	}
	t.tokens = make([]string, len(names))
	for id, name := range names {
		if id < 0 || int(id) >= len(names) {
			return fmt.Errorf("token %q: number %d of %d tokens: want 0 to %d", name, id, len(names), len(names)-1)
		}
		t.tokens[id] = name
		if t.IsSpecial(id) {
			continue
		}
		text, ok := unspell(name)
		if !ok || text == "" {
			return fmt.Errorf("token %q: want the byte-level spelling of at least one byte", name)
		}
		t.tokens[id] = text
	}
	return nil
}

// merge reads ["a", "b"] or "a b".
func (f *file) merge(t *Tokenizer, raw json.RawMessage) (pair, error) {
	var both []string
	if json.Unmarshal(raw, &both) != nil {
		var s string
		if json.Unmarshal(raw, &s) != nil {
			return pair{}, fmt.Errorf("%.40s: want two tokens", raw)
		}
		both = strings.Split(s, " ")
	}
	if len(both) != 2 {
		return pair{}, fmt.Errorf("%.40s: want two tokens", raw)
	}
	var ids [2]int32
	for i, s := range both {
		id, ok := f.Model.Vocab[s]
		if !ok || t.IsSpecial(id) {
			return pair{}, fmt.Errorf("%q: no token: want one of the vocabulary", s)
		}
		ids[i] = id
	}
	return pair{ids[0], ids[1]}, nil
}

// Write writes t as a tokenizer.json file; equal tokenisers give equal bytes.
func (t *Tokenizer) Write(w io.Writer) error {
	b := bufio.NewWriter(w)
	level := fmt.Sprintf(`{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": %v}`, !t.plain)
	b.WriteString("{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n  \"added_tokens\": [")
	for i, s := range t.special {
		comma(b, i)
		fmt.Fprintf(b, "\n    {\"id\": %d, \"content\": %s, \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false, \"special\": true}", s.ID, quote(s.Name))
	}
	fmt.Fprintf(b, "\n  ],\n  \"normalizer\": null,\n  \"pre_tokenizer\": %s,\n  \"post_processor\": null,\n  \"decoder\": %s,\n", level, level)
	b.WriteString("  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null,\n    \"unk_token\": null,\n    \"continuing_subword_prefix\": null,\n" +
		"    \"end_of_word_suffix\": null,\n    \"fuse_unk\": false,\n    \"byte_fallback\": false,\n    \"ignore_merges\": false,\n    \"vocab\": {")
	for id := range t.tokens {
		comma(b, id)
		fmt.Fprintf(b, "\n      %s: %d", quote(t.spelling(int32(id))), id)
	}
	b.WriteString("\n    },\n    \"merges\": [")
	for i, p := range t.merges {
		comma(b, i)
		fmt.Fprintf(b, "\n      [%s, %s]", quote(t.spelling(p.left)), quote(t.spelling(p.right)))
	}
	b.WriteString("\n    ]\n  }\n}\n")
	return b.Flush()
}

func comma(b *bufio.Writer, i int) {
	if i > 0 {
		b.WriteByte(',')
	}
}

// spelling is a token as files have it.
func (t *Tokenizer) spelling(id int32) string {
	if t.IsSpecial(id) {
		return t.tokens[id]
	}
	return spell(t.tokens[id])
}

func quote(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic("bpe: " + err.Error()) // strings do not fail
	}
	return strings.TrimSuffix(b.String(), "\n")
}
