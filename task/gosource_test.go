package task

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestGoTags: kinds by hand, in a library of one package that imports another.
func TestGoTags(t *testing.T) {
	root := write(t, map[string]string{
		"VERSION":         "go1.0\n",
		"src/a/a.go":      "package a\n\ntype T struct{ Size int }\n\nfunc (t T) Grow(by int) int { return t.Size + by }\n",
		"src/b/b.go":      "package b\n\nimport \"a\"\n\nconst two = 2\n\nvar all []a.T\n\nfunc F() *a.T {\nagain:\n\tfor _, x := range all {\n\t\tif len(all) == x.Grow(two) {\n\t\t\tbreak again\n\t\t}\n\t}\n\treturn nil\n}\n",
		"src/b/b_test.go": "package b\n\nsyntax error",
	})
	files, err := tagFiles(root, "b")
	if err != nil || len(files) != 1 {
		t.Fatalf("%d files, error %v", len(files), err)
	}
	var got []string
	for i, k := range files[0].kinds {
		if k > 0 {
			from := i
			for from > 0 && letter(int32(files[0].text[from-1])) {
				from--
			}
			got = append(got, string(files[0].text[from:i+1])+" "+goKinds[k-1])
		}
	}
	want := []string{"two constant", "all global", "a package", "T type", "F function", "a package", "T type", "again label", "x local", "all global", "len builtin", "all global", "x local", "Grow method", "two constant", "again label", "nil nil"}
	if !slices.Equal(got, want) {
		t.Errorf("kinds\n%q\nwant\n%q", got, want)
	}
	files, err = tagFiles(root, "a")
	if err != nil || !strings.Contains(string(files[0].kinds), string([]byte{byte(1 + slices.Index(goKinds, "parameter"))})) {
		t.Errorf("no parameter among the kinds, error %v", err)
	}
	if _, err := tagFiles(root, "c"); err == nil || !strings.Contains(err.Error(), "option under=c") {
		t.Errorf("error %v: want one that says what under may be", err)
	}
}

func TestSinceLast(t *testing.T) {
	for _, c := range []struct {
		text string
		want int
	}{
		{"x", 0}, {"x + x", 4}, {"xx + x", 0}, {"x1 + x", 0}, {"foo bar foo", 8}, {"foofoo", 0}, {"a.b a", 4},
	} {
		if got := sinceLast(bytesOf(c.text), nil, len(c.text)-1); got != c.want {
			t.Errorf("%q: %d: want %d", c.text, got, c.want)
		}
	}
}

// TestGoTagsTask: the labels stand on identifiers, and who has the type checker's answer is right at each distance.
func TestGoTagsTask(t *testing.T) {
	if testing.Short() {
		t.Skip("type-checks a part of the library")
	}
	const name = "go-tags:under=math,length=256,eval=40"
	k := mustNew(t, name)
	for _, v := range answers(t, k, nil) {
		if strings.HasPrefix(v.Unit, "accuracy") && v.Value != 1 {
			t.Errorf("%+v: want 1", v)
		}
	}
	b := k.Train(1, 0, 30)
	for r := range b.Rows {
		tokens, labels := b.Row(r)
		if scored(labels) == 0 {
			t.Error("a row without a label")
		}
		for i, l := range labels {
			if l >= 0 && (!letter(tokens[i]) || l < 256 || i+1 < len(tokens) && letter(tokens[i+1])) {
				t.Errorf("label %d on byte %q", l, rune(tokens[i]))
			}
		}
	}
	if digest(k, 1) != digest(mustNew(t, name), 1) {
		t.Error("made again it gives other rows")
	}
	if _, err := New("go-tags:under=math,length=1000000"); err == nil || !strings.Contains(err.Error(), "option length=1000000: want so short") {
		t.Errorf("error %v: want one about the length", err)
	}
}

func TestGoPackage(t *testing.T) {
	k := mustNew(t, "go-package:eval=50")
	info := k.Info()
	text, err := os.ReadFile(filepath.Join(goRoot(), "VERSION"))
	if err != nil || !strings.HasPrefix(info.Data, strings.Fields(string(text))[0]+", train ") {
		t.Errorf("data %q, error %v: want the version first", info.Data, err)
	}
	v := answers(t, k, nil)
	if v[0].Value != 1 || v[0].Count != 50 {
		t.Errorf("%+v: want 1 of 50", v[0])
	}
	if digest(k, 1) != digest(mustNew(t, "go-package:eval=50"), 1) {
		t.Error("made again it gives other rows")
	}
	path := filepath.Join(write(t, map[string]string{"x.go": "// Package x is.\npackage x // here\n\nvar Y int\n"}), "x.go")
	if rest, err := afterClause(path); err != nil || string(rest) != " // here\n\nvar Y int\n" {
		t.Errorf("after the clause %q, %v", rest, err)
	}
	if _, err := New("go-package:files=5000,most=5000"); err == nil || !strings.Contains(err.Error(), "0 packages with 5000 files") {
		t.Errorf("error %v: want one that counts the packages", err)
	}
}
