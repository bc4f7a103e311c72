package bert

import (
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"attnbench/system"
	"attnbench/text/wordpiece"
)

// booksSet is the data set that models are pre-trained on, and that learned vocabularies come from.
const booksSet = "books"

// book is a text of the set with what its index says of it.
type book struct {
	author     string
	modelling  string // its part in language modelling: train, valid or test
	authorship string // its part in telling authors apart: train, test or - for none
	text       string
}

// library holds what has been read: the models of a sweep share it.
var library struct {
	sync.Mutex
	dir   string
	books []book
	words map[int]*wordpiece.Vocabulary // of the training texts, by size
}

// readBooks returns the books in the order of the index.
func readBooks(f *system.Fit) ([]book, error) {
	library.Lock()
	defer library.Unlock()
	return lockedBooks(f)
}

func lockedBooks(f *system.Fit) ([]book, error) {
	dir, err := f.Set(booksSet, "index.tsv")
	if err != nil {
		return nil, err
	}
	if library.dir == dir {
		return library.books, nil
	}
	index, err := os.ReadFile(filepath.Join(dir, "index.tsv"))
	if err != nil {
		return nil, err
	}
	files, books, err := parseIndex(string(index))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, "index.tsv"), err)
	}
	for i, file := range files {
		if books[i].text, err = gunzip(filepath.Join(dir, file)); err != nil {
			return nil, err
		}
	}
	library.dir, library.books, library.words = dir, books, map[int]*wordpiece.Vocabulary{}
	return books, nil
}

func parseIndex(text string) (files []string, books []book, err error) {
	names := []string{"file", "author", "lm_split", "authorship_split"}
	var at []int
	for n, line := range strings.Split(strings.TrimSpace(text), "\n") {
		cells := strings.Split(strings.TrimRight(line, "\r"), "\t")
		if at == nil {
			for _, name := range names {
				at = append(at, slices.Index(cells, name))
			}
			if slices.Contains(at, -1) {
				return nil, nil, fmt.Errorf("line 1: columns %q: want %s among them", cells, strings.Join(names, ", "))
			}
			continue
		}
		if len(cells) <= slices.Max(at) {
			return nil, nil, fmt.Errorf("line %d: %d columns: want at least %d", n+1, len(cells), slices.Max(at)+1)
		}
		if !filepath.IsLocal(cells[at[0]]) {
			return nil, nil, fmt.Errorf("line %d: file %q: want a path within the folder", n+1, cells[at[0]])
		}
		files = append(files, cells[at[0]])
		books = append(books, book{author: cells[at[1]], modelling: cells[at[2]], authorship: cells[at[3]]})
	}
	if len(books) == 0 {
		return nil, nil, fmt.Errorf("no books: want at least one")
	}
	return files, books, nil
}

func gunzip(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return string(text), nil
}

// bookWords returns the vocabulary of at most size pieces that the books for training teach.
func bookWords(f *system.Fit, size int) (*wordpiece.Vocabulary, error) {
	library.Lock()
	defer library.Unlock()
	books, err := lockedBooks(f)
	if err != nil {
		return nil, err
	}
	if v := library.words[size]; v != nil {
		return v, nil
	}
	v, err := wordpiece.Train(func(yield func(string) bool) {
		for _, b := range books {
			if b.modelling == "train" && !yield(b.text) {
				return
			}
		}
	}, size)
	if err == nil {
		library.words[size] = v
	}
	return v, err
}
