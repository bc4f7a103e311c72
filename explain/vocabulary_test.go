package explain

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestVocabulary(t *testing.T) {
	dir := t.TempDir()
	file := func(text string) string {
		path := filepath.Join(dir, "pieces.tsv")
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		return path
	}
	v, err := ReadVocabulary(file("token\tx\tpiece\n3\t-\t\" a\"\n4\t-\t\" ab\"\n5\t-\tb\n6\t-\t\"\\n\"\n3\t-\t\" a\"\n"), 7)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := v.Encode(" ab ab b\n"[:6] + "\n a")
	if err != nil || !slices.Equal(ids, []int32{4, 4, 6, 3}) {
		t.Errorf("tokens %v, %v: want the longest pieces, 4 4 6 3", ids, err)
	}
	if v.Name(4) != " ab" || v.Name(1) != "1" || (*Vocabulary)(nil).Name(7) != "7" || Bytes().Name('x') != "x" {
		t.Error("names of tokens")
	}
	if _, err := v.Encode(" abz"); err == nil || !strings.Contains(err.Error(), `spells "z" at byte 3`) {
		t.Errorf("a text that no piece spells: %v", err)
	}
	if ids, err := Bytes().Encode("aé"); err != nil || !slices.Equal(ids, []int32{'a', 0xc3, 0xa9}) {
		t.Errorf("bytes %v, %v", ids, err)
	}
	for _, x := range []struct{ text, want string }{
		{"token\n3\n", "line 1: columns"},
		{"token\tpiece\n3\n", "line 2: 1 columns: want 2"},
		{"token\tpiece\n7\ta\n", `line 2: token "7": want 0 to 6`},
		{"token\tpiece\n-1\ta\n", `line 2: token "-1"`},
		{"token\tpiece\n3\ta\n4\ta\n", `line 3: piece "a" is token 4, and was 3`},
	} {
		if _, err := ReadVocabulary(file(x.text), 7); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%q: error %v: want %s", x.text, err, x.want)
		}
	}
}

func FuzzVocabulary(f *testing.F) {
	f.Add("token\tpiece\n3\t\" a\"\n", " a")
	f.Fuzz(func(t *testing.T, table, text string) {
		v := &Vocabulary{pieces: map[string]int32{}, names: map[int32]string{}}
		if v.table(table, 100) != nil {
			return
		}
		ids, err := v.Encode(text)
		if err != nil {
			return
		}
		back := ""
		for _, id := range ids {
			if _, ok := v.names[id]; !ok {
				t.Fatalf("token %d has no piece", id)
			}
			back += v.Name(id)
		}
		if len(back) != len(text) && len(v.names) == len(v.pieces) {
			t.Fatalf("%q became %q", text, back)
		}
	})
}

func TestLabel(t *testing.T) {
	for in, want := range map[string]string{" a b": "·a·b", "\n": `\n`, "\x00": `\x00`, "é": "é"} {
		if got := Label(in); got != want {
			t.Errorf("label of %q is %q: want %q", in, got, want)
		}
	}
}
