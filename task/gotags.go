package task

import (
	"crypto/sha256"
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"go/types"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"attnbench/internal/options"
)

func init() {
	Register("go-tags", GoTags{Length: 1024, Under: "go", Eval: 200}, GoTags.New)
}

// GoTags holds the options of telling what each identifier of Go source stands for: a package, a type, a constant, a global variable, a local one, a parameter, a field, a function, a method, a built-in, a label or nil.
//
// A row is a piece of a file of the standard library, byte by byte; the last byte of each identifier is labelled with its kind, as go/types finds it. A model that reads onwards needs the declaration, or an earlier use, for many of
// them. Accuracy is also given by how many bytes before the identifier stood last in the row, 0 for never. Of the files in order each tenth is for testing and the one before it for validation.
type GoTags struct {
	Length int    `opt:"length"` // bytes of a piece
	Under  string `opt:"under"`  // the packages whose path starts so: go, or net.http for net/http; all takes the whole library, but for builtin, which is no package
	Eval   int    `opt:"eval"`   // pieces of the test set, spread evenly; 0 for all
}

// The kinds of identifiers, whose tokens follow those of the bytes.
var goKinds = []string{"package", "type", "constant", "global", "local", "parameter", "field", "function", "method", "builtin", "label", "nil"}

// New returns the task with the options o.
func (o GoTags) New() (Task, error) {
	if err := within(limit{"length", o.Length, 16, 1 << 20}, limit{"eval", o.Eval, 0, 1 << 30}); err != nil {
		return nil, err
	}
	root := goRoot()
	version, err := goVersion(root)
	if err != nil {
		return nil, err
	}
	files, err := taggedOnce(root, o.Under)
	if err != nil {
		return nil, err
	}
	var train []taggedFile
	var pieces [2][]taggedFile
	h := sha256.New()
	for i, f := range files {
		h.Write(f.text)
		h.Write(f.kinds)
		if i%10 < 8 {
			if len(f.text) > o.Length {
				train = append(train, f)
			}
			continue
		}
		for at := 0; at+o.Length <= len(f.text); at += o.Length {
			p := taggedFile{f.text[at : at+o.Length], f.kinds[at : at+o.Length]}
			if slices.ContainsFunc(p.kinds, func(k byte) bool { return k > 0 }) {
				pieces[i%10-8] = append(pieces[i%10-8], p)
			}
		}
	}
	if len(train) == 0 || len(pieces[Valid]) == 0 || len(pieces[Test]) == 0 {
		return nil, options.Error("length", o.Length, fmt.Sprintf("so short that some of the %d files have a piece for training, validation and testing each", len(files)))
	}
	for i, limit := range []int{min(o.Eval, validation), o.Eval} {
		if all := pieces[i]; limit > 0 && limit < len(all) {
			pieces[i] = nil
			for j := range limit {
				pieces[i] = append(pieces[i], all[j*len(all)/limit])
			}
		}
	}
	g := generated{
		info: Info{
			Name: Spell("go-tags", o), Title: "kinds of identifiers in Go source", Paper: "go/types over GOROOT/src of the Go installation, its version among the data",
			Data: fmt.Sprintf("%s, %d files, sha256 %.16x", version, len(files), h.Sum(nil)), Vocab: 256 + len(goKinds), Length: o.Length,
		},
		answers: len(goKinds), sizeOf: "how many bytes before the identifier ended last, 0 for never", size: sinceLast,
		train: []setting{{o.Length, func(rng *rand.Rand, tokens, labels []int32) {
			for scored(labels) == 0 { // a long comment has no identifier
				f := train[rng.IntN(len(train))]
				at := rng.IntN(len(f.text) - o.Length)
				taggedFile{f.text[at:], f.kinds[at:]}.put(tokens, labels)
			}
		}}},
		fixed: func(split Split, i int, tokens, labels []int32) { pieces[split][i].put(tokens, labels) }, counts: [2]int{len(pieces[0]), len(pieces[1])},
	}
	for g.sizes = []int{0}; g.sizes[len(g.sizes)-1] < o.Length/2; {
		g.sizes = append(g.sizes, max(1, 2*g.sizes[len(g.sizes)-1]))
	}
	return newGenerated(g)
}

// taggedFile is a text with, at the last byte of each identifier, its kind from 1; 0 elsewhere.
type taggedFile struct{ text, kinds []byte }

func (f taggedFile) put(tokens, labels []int32) {
	for i := range tokens {
		tokens[i], labels[i] = int32(f.text[i]), -1
		if k := f.kinds[i]; k > 0 {
			labels[i] = 255 + int32(k)
		}
	}
}

func letter(c int32) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= '0' && c <= '9' || c >= 0x80
}

// sinceLast returns how many bytes before position i the identifier that ends there ended last.
func sinceLast(tokens, _ []int32, i int) int {
	from := i
	for from > 0 && letter(tokens[from-1]) {
		from--
	}
	word := tokens[from : i+1]
	for end := from; end >= len(word); end-- {
		if slices.Equal(tokens[end-len(word):end], word) && !letter(tokens[end]) && (end == len(word) || !letter(tokens[end-len(word)-1])) {
			return i + 1 - end
		}
	}
	return 0
}

var tagged = struct {
	sync.Mutex
	files map[string][]taggedFile
}{files: map[string][]taggedFile{}}

// taggedOnce type-checks packages once in a process.
func taggedOnce(root, under string) ([]taggedFile, error) {
	tagged.Lock()
	defer tagged.Unlock()
	key := root + ":" + under
	if files, ok := tagged.files[key]; ok {
		return files, nil
	}
	files, err := tagFiles(root, under)
	if err == nil {
		tagged.files[key] = files
	}
	return files, err
}

// tagFiles returns the tagged files of the packages that under names, in lexical order.
func tagFiles(root, under string) ([]taggedFile, error) {
	paths, err := goFiles(root)
	if err != nil {
		return nil, err
	}
	src := filepath.Join(root, "src")
	under = strings.ReplaceAll(under, ".", "/")
	c := &checker{set: token.NewFileSet(), src: src, packages: map[string]*types.Package{"unsafe": types.Unsafe}}
	c.context = build.Default
	c.context.GOROOT, c.context.GOOS, c.context.GOARCH, c.context.CgoEnabled = root, "linux", "amd64", false // the same files everywhere
	var list []taggedFile
	var last string
	for _, path := range paths {
		dir := filepath.ToSlash(strings.TrimPrefix(filepath.Dir(path), src+string(filepath.Separator)))
		if dir == last || dir == "builtin" || under != "all" && dir != under && !strings.HasPrefix(dir, under+"/") {
			continue
		}
		last = dir
		files, err := c.tag(dir)
		if err != nil {
			return nil, fmt.Errorf("package %s: %w", dir, err)
		}
		list = append(list, files...)
	}
	if len(list) == 0 {
		return nil, options.Error("under", under, "all, or the start of a package's path with . for /, such as go or net.http")
	}
	return list, nil
}

// checker type-checks the standard library from its source; of packages that are only imported without the bodies of their functions.
type checker struct {
	set      *token.FileSet
	src      string
	context  build.Context
	packages map[string]*types.Package
}

// Import makes a checker a types.Importer.
func (c *checker) Import(path string) (*types.Package, error) {
	if p := c.packages[path]; p != nil {
		return p, nil
	}
	p, _, err := c.check(path, nil)
	if err == nil {
		c.packages[path] = p
	}
	return p, err
}

func (c *checker) check(path string, info *types.Info) (*types.Package, []*ast.File, error) {
	dir := filepath.Join(c.src, path)
	if _, err := os.Stat(dir); err != nil {
		dir = filepath.Join(c.src, "vendor", path)
	}
	b, err := c.context.ImportDir(dir, 0)
	if err != nil {
		return nil, nil, err
	}
	var files []*ast.File
	for _, name := range b.GoFiles {
		f, err := parser.ParseFile(c.set, filepath.Join(dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, nil, err
		}
		files = append(files, f)
	}
	config := types.Config{Importer: c, IgnoreFuncBodies: info == nil, FakeImportC: true, Sizes: types.SizesFor("gc", "amd64")}
	p, err := config.Check(path, c.set, files, info)
	return p, files, err
}

// tag returns the files of a package with the kinds of their identifiers; none of one without files for this system.
func (c *checker) tag(path string) ([]taggedFile, error) {
	info := &types.Info{Defs: map[*ast.Ident]types.Object{}, Uses: map[*ast.Ident]types.Object{}}
	_, files, err := c.check(path, info)
	if _, none := err.(*build.NoGoError); none {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []taggedFile
	for _, f := range files {
		text, err := os.ReadFile(c.set.Position(f.Package).Filename)
		if err != nil {
			return nil, err
		}
		t := taggedFile{text, make([]byte, len(text))}
		ast.Inspect(f, func(n ast.Node) bool {
			id, ok := n.(*ast.Ident)
			if !ok || id.Name == "_" {
				return true
			}
			object := info.Defs[id]
			if object == nil {
				object = info.Uses[id]
			}
			if k := kindOf(object); k != "" {
				t.kinds[c.set.PositionFor(id.End(), false).Offset-1] = byte(1 + slices.Index(goKinds, k))
			}
			return true
		})
		list = append(list, t)
	}
	return list, nil
}

// kindOf returns one of goKinds, or nothing for no object.
func kindOf(object types.Object) string {
	switch o := object.(type) {
	case *types.PkgName:
		return "package"
	case *types.TypeName:
		return "type"
	case *types.Const:
		return "constant"
	case *types.Builtin:
		return "builtin"
	case *types.Label:
		return "label"
	case *types.Nil:
		return "nil"
	case *types.Func:
		if o.Signature().Recv() != nil {
			return "method"
		}
		return "function"
	case *types.Var:
		switch o.Kind() {
		case types.PackageVar:
			return "global"
		case types.FieldVar:
			return "field"
		case types.LocalVar:
			return "local"
		default: // receivers, parameters and results
			return "parameter"
		}
	}
	return ""
}
