package task

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	_ "embed"
	"fmt"
	"go/build"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// corpus is a text in its three parts. Files follow one another with a zero byte between.
type corpus struct {
	train, valid, test []byte
	about              string // what fixes the bytes, beside their hash
}

// data describes the corpus by sizes and content, so that equal descriptions mean equal bytes.
func (c *corpus) data() string {
	h := sha256.New()
	for _, part := range [][]byte{c.train, c.valid, c.test} {
		fmt.Fprintf(h, "%d\n", len(part))
		h.Write(part)
	}
	s := fmt.Sprintf("train %d, valid %d, test %d bytes, sha256 %.16x", len(c.train), len(c.valid), len(c.test), h.Sum(nil))
	if c.about != "" {
		s = c.about + ", " + s
	}
	return s
}

// splitTail cuts one text: the last tenth is for testing, of the rest the first twentieth for
// validation. What lies between is for training: next to the test, as the end of a text is most like what follows.
func splitTail(text []byte) *corpus {
	n := len(text) * 9 / 10
	v := n / 20
	return &corpus{valid: text[:v:v], train: text[v:n:n], test: text[n:]}
}

//go:embed corpora/opticks.txt.gz
var opticksGz []byte

var opticks = sync.OnceValues(func() ([]byte, error) { return gunzip("opticks.txt.gz", bytes.NewReader(opticksGz)) })

func gunzip(name string, r io.Reader) ([]byte, error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return text, nil
}

// readFile returns a file's bytes, unpacked if it is a gz file by its first two bytes.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() { // a device may never end
		return nil, fmt.Errorf("%s: not a regular file: want one", path)
	}
	r := bufio.NewReader(f)
	if magic, _ := r.Peek(2); string(magic) == "\x1f\x8b" {
		return gunzip(path, r)
	}
	return io.ReadAll(r)
}

// readAny returns the bytes of a file, or of all files under a folder in lexical order.
func readAny(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return readFile(path)
	}
	paths, err := list(path, func(string, fs.DirEntry) bool { return true })
	if err != nil {
		return nil, err
	}
	return readFiles(paths)
}

// list returns the regular files under a folder in lexical order, but for folders and files that keep rejects.
func list(folder string, keep func(path string, d fs.DirEntry) bool) ([]string, error) {
	folder, err := filepath.EvalSymlinks(folder)
	if err != nil {
		return nil, err
	}
	var paths []string
	err = filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case path != folder && !keep(path, d):
			if d.IsDir() {
				return filepath.SkipDir
			}
		case d.Type().IsRegular():
			paths = append(paths, path)
		}
		return nil
	})
	if err == nil && len(paths) == 0 {
		err = fmt.Errorf("%s: no files to read: want at least one", folder)
	}
	return paths, err
}

func readFiles(paths []string) ([]byte, error) {
	var all []byte
	for i, path := range paths {
		text, err := readFile(path)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			all = append(all, 0)
		}
		all = append(all, text...)
	}
	return all, nil
}

// readGoSource reads the standard library of a Go installation, without tests, commands and vendored code. Of
// its files in lexical order each tenth is for testing and the one before it for validation.
func readGoSource(root string) (*corpus, error) {
	paths, err := goFiles(root)
	if err != nil {
		return nil, err
	}
	var parts [3][]string
	for i, path := range paths {
		switch i % 10 {
		case 8:
			parts[1] = append(parts[1], path)
		case 9:
			parts[2] = append(parts[2], path)
		default:
			parts[0] = append(parts[0], path)
		}
	}
	c, err := readParts(parts)
	if err != nil {
		return nil, err
	}
	if c.about, err = goVersion(root); err != nil {
		return nil, err
	}
	return c, nil
}

func readParts(parts [3][]string) (*corpus, error) {
	c := new(corpus)
	for i, to := range []*[]byte{&c.train, &c.valid, &c.test} {
		text, err := readFiles(parts[i])
		if err != nil {
			return nil, err
		}
		*to = text
	}
	return c, nil
}

func goRoot() string { return build.Default.GOROOT }

// readBooks reads a folder with an index.tsv, whose columns file and lm_split name each file's part.
func readBooks(folder string) (*corpus, error) {
	index := filepath.Join(folder, "index.tsv")
	text, err := os.ReadFile(index)
	if err != nil {
		return nil, err
	}
	parts, err := parseIndex(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s:%w", index, err)
	}
	for _, names := range parts {
		for i := range names {
			names[i] = filepath.Join(folder, names[i])
		}
	}
	return readParts(parts)
}

// parseIndex returns the files for training, validation and testing; an error starts with the line's number.
func parseIndex(text string) (parts [3][]string, err error) {
	file, split := -1, -1
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			continue
		}
		fields := strings.Split(line, "\t")
		if file < 0 {
			file, split = slices.Index(fields, "file"), slices.Index(fields, "lm_split")
			if file < 0 || split < 0 {
				return parts, fmt.Errorf("%d: columns %q: want file and lm_split among them", n, fields)
			}
			continue
		}
		if len(fields) <= max(file, split) {
			return parts, fmt.Errorf("%d: %d columns: want at least %d", n, len(fields), max(file, split)+1)
		}
		name := fields[file]
		if !filepath.IsLocal(name) {
			return parts, fmt.Errorf("%d: file %q: want a path within the folder", n, name)
		}
		part := slices.Index([]string{"train", "valid", "test"}, fields[split])
		if part < 0 {
			return parts, fmt.Errorf("%d: lm_split %q: want train, valid or test", n, fields[split])
		}
		parts[part] = append(parts[part], name)
	}
	return parts, nil
}

var foldings = strings.NewReplacer("‘", "'", "’", "'", "“", `"`, "”", `"`, "–", "-", "—", "--")

// fold writes the quotes and dashes of typography in ASCII.
func fold(text []byte) []byte { return []byte(foldings.Replace(string(text))) }
