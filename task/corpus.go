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
	return join(path, func(string, fs.DirEntry) bool { return true })
}

// join reads the regular files under a folder in lexical order, but for folders and files that keep rejects.
func join(folder string, keep func(path string, d fs.DirEntry) bool) ([]byte, error) {
	paths, err := list(folder, keep)
	if err != nil {
		return nil, err
	}
	return readFiles(paths)
}

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
	if root == "" {
		return nil, fmt.Errorf("no Go installation found: want GOROOT set")
	}
	src := filepath.Join(root, "src")
	paths, err := list(src, func(path string, d fs.DirEntry) bool {
		if d.IsDir() {
			return d.Name() != "testdata" && d.Name() != "vendor" && (d.Name() != "cmd" || filepath.Base(filepath.Dir(path)) != "src")
		}
		return strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go")
	})
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
	version, err := os.ReadFile(filepath.Join(root, "VERSION"))
	if err != nil {
		return nil, fmt.Errorf("version of the Go source: %w", err)
	}
	line, _, _ := strings.Cut(string(version), "\n")
	c.about = strings.TrimSpace(line)
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
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	file, split := -1, -1
	for i, name := range strings.Split(strings.TrimSuffix(lines[0], "\r"), "\t") {
		switch name {
		case "file":
			file = i
		case "lm_split":
			split = i
		}
	}
	if file < 0 || split < 0 {
		return nil, fmt.Errorf("%s:1: columns %q: want file and lm_split among them", index, lines[0])
	}
	var parts [3][]string
	for n, line := range lines[1:] {
		fields := strings.Split(strings.TrimSuffix(line, "\r"), "\t")
		if len(fields) <= max(file, split) {
			return nil, fmt.Errorf("%s:%d: %d columns: want at least %d", index, n+2, len(fields), max(file, split)+1)
		}
		if !filepath.IsLocal(fields[file]) {
			return nil, fmt.Errorf("%s:%d: file %q: want a path within the folder", index, n+2, fields[file])
		}
		path := filepath.Join(folder, fields[file])
		switch fields[split] {
		case "train":
			parts[0] = append(parts[0], path)
		case "valid":
			parts[1] = append(parts[1], path)
		case "test":
			parts[2] = append(parts[2], path)
		default:
			return nil, fmt.Errorf("%s:%d: lm_split %q: want train, valid or test", index, n+2, fields[split])
		}
	}
	return readParts(parts)
}
