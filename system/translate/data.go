package translate

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"attnbench/system"
	"attnbench/text/bpe"
)

// set is how a data set lies in its files: tab-separated columns, the last two source and target.
type set struct {
	name     string
	columns  int
	tokenize string // of BLEU
	words    int    // of the vocabulary
	chapters bool   // the first column is a reference "book chapter:verse"
}

var sets = []set{
	{name: "bible-en-es", columns: 3, tokenize: "13a", words: 4096, chapters: true},
	{name: "tatoeba-en-zh", columns: 4, tokenize: "zh", words: 4096},
}

// Special tokens of the vocabulary.
const (
	padName, beginName, endName = "<pad>", "<s>", "</s>"
	joint                       = "\n" // between the verses of a chapter
)

// pair is a source and its translation.
type pair struct {
	chapter        string
	source, target string
	in, out        []int32 // their tokens
}

// data is a set as the system uses it.
type data struct {
	set
	tokens      *bpe.Tokenizer
	joint       []int32 // tokens of joint
	train, test []pair
}

// readPairs reads a split of a set.
func (s *set) readPairs(dir, split string) ([]pair, error) {
	path := filepath.Join(dir, split+".tsv.gz")
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	pairs, err := s.parse(z)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return pairs, nil
}

func (s *set) parse(r io.Reader) ([]pair, error) {
	var pairs []pair
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		c := strings.Split(lines.Text(), "\t")
		if len(c) != s.columns {
			return nil, fmt.Errorf("line %d: %d columns: want %d", n, len(c), s.columns)
		}
		p := pair{source: strings.TrimSpace(c[len(c)-2]), target: strings.TrimSpace(c[len(c)-1])}
		if p.source == "" || p.target == "" {
			return nil, fmt.Errorf("line %d: an empty sentence: want source and target", n)
		}
		if s.chapters {
			ok := false
			if p.chapter, _, ok = strings.Cut(c[0], ":"); !ok {
				return nil, fmt.Errorf("line %d: verse %q: want book chapter:verse", n, c[0])
			}
		}
		pairs = append(pairs, p)
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(pairs) == 0 {
		return nil, fmt.Errorf("no pairs: want at least one")
	}
	return pairs, nil
}

// loaded holds what load has read: the models of a sweep share it.
var loaded struct {
	sync.Mutex
	key  string
	data *data
}

// load reads a set, learns its vocabulary of at most words tokens from the training split, both sides together, and encodes the pairs.
func load(f *system.Fit, s set, words int) (*data, error) {
	dir, err := f.Set(s.name, "train.tsv.gz", "test.tsv.gz")
	if err != nil {
		return nil, err
	}
	loaded.Lock()
	defer loaded.Unlock()
	key := fmt.Sprintf("%s\n%d", dir, words)
	if loaded.key == key {
		return loaded.data, nil
	}
	d := &data{set: s}
	for split, pairs := range map[string]*[]pair{"train": &d.train, "test": &d.test} {
		if *pairs, err = s.readPairs(dir, split); err != nil {
			return nil, err
		}
	}
	d.tokens, err = bpe.Train(func(yield func(string) bool) {
		for _, p := range d.train {
			if !yield(p.source) || !yield(p.target) {
				return
			}
		}
	}, words, padName, beginName, endName)
	if err != nil {
		return nil, err
	}
	d.joint = d.tokens.Encode(joint)
	for _, pairs := range [][]pair{d.train, d.test} {
		for i := range pairs {
			pairs[i].in, pairs[i].out = d.tokens.Encode(pairs[i].source), d.tokens.Encode(pairs[i].target)
		}
	}
	loaded.key, loaded.data = key, d
	return d, nil
}

// join makes one pair of consecutive verses.
func (d *data) join(verses []pair) pair {
	p := verses[0]
	p.in, p.out = slices.Clone(p.in), slices.Clone(p.out)
	for _, v := range verses[1:] {
		p.source, p.target = p.source+joint+v.source, p.target+joint+v.target
		p.in, p.out = append(append(p.in, d.joint...), v.in...), append(append(p.out, d.joint...), v.out...)
	}
	return p
}

// chapters cuts pairs where the chapter changes.
func chapters(pairs []pair) [][]pair {
	var all [][]pair
	for i := 0; i < len(pairs); {
		j := i + 1
		for j < len(pairs) && pairs[j].chapter == pairs[i].chapter {
			j++
		}
		all = append(all, pairs[i:j])
		i = j
	}
	return all
}

// question is a source of the test with all its references.
type question struct {
	source string
	in     []int32
	refs   []string
	out    []int32 // tokens of the first reference
}

// The long form asks for chapters of 2K to 8K bytes.
const leastChapter, mostChapter = 2000, 8000

// questions lists the test set: each source once, with all its translations, or whole chapters.
func (d *data) questions(long bool) []question {
	var all []question
	pairs := d.test
	if long {
		pairs = nil
		for _, c := range chapters(d.test) {
			if p := d.join(c); len(p.source) >= leastChapter && len(p.source) <= mostChapter {
				pairs = append(pairs, p)
			}
		}
	}
	at := map[string]int{}
	for _, p := range pairs {
		i, seen := at[p.source]
		if !seen {
			i = len(all)
			at[p.source] = i
			all = append(all, question{source: p.source, in: p.in, out: p.out})
		}
		all[i].refs = append(all[i].refs, p.target)
	}
	return all
}
