package task

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

func init() {
	Register("go-package", GoPackage{Length: 1024, Files: 20, Most: 60, Eval: 1000}, GoPackage.New)
}

// GoPackage holds the options of telling a package of Go's standard library from a piece of one of its files.
//
// The classes are the packages with at least Files files, tests left out; of one with more than Most, so many are taken, spread evenly. What stands up to the package clause is cut off, and the rest cut into pieces that follow one
// another. Of a package's files in order each fifth is for testing and the one before it for validation. The labels are exact, and nothing is downloaded.
type GoPackage struct {
	Length int `opt:"length"` // bytes of a piece, and the question
	Files  int `opt:"files"`  // of a package, at least
	Most   int `opt:"most"`   // files taken of a package
	Eval   int `opt:"eval"`   // pieces of the test set, spread evenly; 0 for all
}

// New returns the task with the options o.
func (o GoPackage) New() (Task, error) {
	if err := within(limit{"length", o.Length, 64, 1 << 20}, limit{"files", o.Files, 5, 1 << 20}, limit{"most", o.Most, o.Files, 1 << 20}); err != nil {
		return nil, err
	}
	root := goRoot()
	paths, err := goFiles(root)
	if err != nil {
		return nil, err
	}
	version, err := goVersion(root)
	if err != nil {
		return nil, err
	}
	packages := map[string][]string{}
	for _, path := range paths {
		dir := filepath.Dir(path)
		packages[dir] = append(packages[dir], path)
	}
	var names []string
	for dir, files := range packages {
		if len(files) >= o.Files {
			names = append(names, dir)
		}
	}
	slices.Sort(names)
	if len(names) < 2 {
		return nil, fmt.Errorf("%d packages with %d files: want option files so that there are 2 at least", len(names), o.Files)
	}
	var list examples
	for class, dir := range names {
		files := packages[dir]
		n := min(len(files), o.Most)
		for i := range n {
			part := max(0, i%5-2) // 0, 0, 0, 1, 2
			text, err := afterClause(files[i*len(files)/n])
			if err != nil {
				return nil, err
			}
			for piece := range slices.Chunk(text, o.Length-1) {
				if len(piece) > (o.Length-1)/4 {
					list[part] = append(list[part], example{piece, class})
				}
			}
		}
	}
	return newClassifier(Info{
		Name: Spell("go-package", o), Title: fmt.Sprintf("which of %d packages a piece of Go source is of", len(names)), Paper: "GOROOT/src of the Go installation, its version among the data", Data: version,
	}, list, len(names), o.Length, o.Eval, firstBytes)
}

// afterClause returns a Go file's text after its package clause, which would give the answer.
func afterClause(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, path, text, parser.PackageClauseOnly)
	if err != nil {
		return nil, err
	}
	return text[set.Position(f.Name.End()).Offset:], nil
}

// goFiles returns the standard library's files in lexical order, without tests, commands and vendored code.
func goFiles(root string) ([]string, error) {
	if root == "" {
		return nil, fmt.Errorf("no Go installation found: want GOROOT set")
	}
	return list(filepath.Join(root, "src"), func(path string, d fs.DirEntry) bool {
		if d.IsDir() {
			return d.Name() != "testdata" && d.Name() != "vendor" && (d.Name() != "cmd" || filepath.Base(filepath.Dir(path)) != "src")
		}
		return strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go")
	})
}

// goVersion returns the version of a Go installation.
func goVersion(root string) (string, error) {
	version, err := os.ReadFile(filepath.Join(root, "VERSION"))
	if err != nil {
		return "", fmt.Errorf("version of the Go source: %w", err)
	}
	line, _, _ := strings.Cut(string(version), "\n")
	return strings.TrimSpace(line), nil
}
