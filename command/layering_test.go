package command

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"attnbench/attn"
)

const module = "attnbench/"

// layers are the module's folders from the bottom up; an import points to a lower line. A folder is
// judged by its longest prefix here.
var layers = [][]string{
	{"internal"},
	{"text", "media"},
	{"attn", "safetensors"},
	{"attn/internal", "attn/tile", "attn/attntest"},
	{"autograd"},
	{"attn/composed", "nn"},
	{"attn/full", "attn/sliding", "attn/sparse", "attn/linear", "attn/wrapped"}, // the mechanisms
	{"attn/all"},
	{"model"},
	{"task"},
	{"train"},
	{"system"},
	{"results"},
	{"harness", "explain"},
	{"command"},
	{"cmd"},
}

func layerOf(dir string) (layer int, prefix string) {
	layer = -1
	for i, l := range layers {
		for _, p := range l {
			if (dir == p || strings.HasPrefix(dir, p+"/")) && len(p) > len(prefix) {
				layer, prefix = i, p
			}
		}
	}
	return layer, prefix
}

// above reports whether a folder is above attn/, where no mechanism may be named.
func above(dir string) bool {
	return dir != "internal" && !under(dir, "internal") && !under(dir, "attn")
}

func under(dir, prefix string) bool { return dir == prefix || strings.HasPrefix(dir, prefix+"/") }

func mechanism(dir string) bool {
	layer, prefix := layerOf(dir)
	return layer >= 0 && strings.HasPrefix(prefix, "attn/") && prefix != "attn/all" && slices.Contains(layers[6], prefix)
}

// eachFile parses the module's Go files, those of nested modules left out.
func eachFile(t *testing.T, f func(dir, path string, set *token.FileSet, file *ast.File)) {
	t.Helper()
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); path != ".." && (name == "testdata" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_")) {
				return filepath.SkipDir
			}
			if nested, _ := filepath.Glob(filepath.Join(path, "go.mod")); nested != nil && path != ".." {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel("..", filepath.Dir(path))
		if err != nil {
			return err
		}
		f(filepath.ToSlash(rel), path, set, file)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestImportsPointDownwards(t *testing.T) {
	files := 0
	eachFile(t, func(dir, path string, set *token.FileSet, file *ast.File) {
		files++
		from, fromPrefix := layerOf(dir)
		if from < 0 {
			t.Errorf("%s: folder %s has no layer: want it in the list of this test", path, dir)
			return
		}
		isTest := strings.HasSuffix(path, "_test.go")
		for _, imp := range file.Imports {
			name, _ := strconv.Unquote(imp.Path.Value)
			to, ok := strings.CutPrefix(name, module)
			if !ok {
				continue
			}
			if above(dir) && mechanism(to) && !isTest {
				t.Errorf("%s imports the mechanism package %s: want attn/all and the registry", set.Position(imp.Pos()), to)
			}
			layer, prefix := layerOf(to)
			if !isTest && (layer > from || layer == from && prefix != fromPrefix) {
				t.Errorf("%s: %s imports %s: want imports that point downwards", set.Position(imp.Pos()), dir, to)
			}
		}
	})
	if files < 20 {
		t.Errorf("%d files seen: want the whole module", files)
	}
}

func TestNoExitOutsideCmd(t *testing.T) {
	eachFile(t, func(dir, path string, set *token.FileSet, file *ast.File) {
		if strings.HasSuffix(path, "_test.go") || under(dir, "cmd") || strings.HasSuffix(dir, "/gen") || file.Name.Name == "main" {
			return
		}
		ast.Inspect(file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && (x.Name == "os" && sel.Sel.Name == "Exit" || x.Name == "log" && strings.HasPrefix(sel.Sel.Name, "Fatal")) {
				t.Errorf("%s: %s.%s: want an error returned, outside cmd", set.Position(n.Pos()), x.Name, sel.Sel.Name)
			}
			return true
		})
	})
}

// TestNoMechanismNamed: no string above attn/ spells a mechanism. Help texts that show one inside a sentence or a
// command line are none.
func TestNoMechanismNamed(t *testing.T) {
	names := attn.Names()
	if len(names) == 0 {
		t.Fatal("no mechanism is registered")
	}
	eachFile(t, func(dir, path string, set *token.FileSet, file *ast.File) {
		if !above(dir) || strings.HasSuffix(path, "_test.go") {
			return
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ImportSpec:
				return false
			case *ast.BasicLit:
				s, err := strconv.Unquote(n.Value)
				if n.Kind != token.STRING || err != nil {
					return true
				}
				name, _, _ := strings.Cut(s, ":")
				if slices.Contains(names, name) && !strings.ContainsAny(s, " \n") {
					t.Errorf("%s: %q names a mechanism: want the registry asked", set.Position(n.Pos()), s)
				}
			}
			return true
		})
	})
}
