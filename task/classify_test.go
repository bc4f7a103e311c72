package task

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// write makes files below a new folder.
func write(t testing.TB, files map[string]string) string {
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func spec(name, dir, options string) string {
	return name + ":path=" + strings.ReplaceAll(dir, ",", "%2C") + options
}

func TestLRAText(t *testing.T) {
	files := map[string]string{}
	for _, part := range []string{"train", "test"} {
		for i := range 20 {
			files[fmt.Sprintf("%s/pos/%d_9.txt", part, i)] = fmt.Sprint("good film ", i)
			files[fmt.Sprintf("%s/neg/%d_1.txt", part, i)] = fmt.Sprint("bad film, and a long review of it ", i)
		}
	}
	files["train/unsup/0_0.txt"] = "not read"
	dir := write(t, files)
	name := spec("lra-text", dir, ",length=16")
	solved(t, name, func(tokens []int32) int32 {
		if tokens[0] == 'g' {
			return classTokens + 1
		}
		return classTokens
	})
	k := mustNew(t, name)
	if got, want := k.Info().Data, "train 36, valid 4, test 40 examples, sha256 "; !strings.HasPrefix(got, want) {
		t.Errorf("data %q: want %q…", got, want)
	}
	b := k.Train(1, 0, 30)
	for r := range b.Rows {
		tokens, labels := b.Row(r)
		at := slices.Index(tokens, askToken)
		if at < 0 || scored(labels) != 1 || labels[at] < classTokens || at < 15 && (tokens[at+1] != padToken || at < 11) {
			t.Fatalf("tokens %v, labels %v", tokens, labels)
		}
	}
	if n := 0; true {
		for b := range mustNew(t, spec("lra-text", dir, ",eval=10")).Eval(Test, 3) {
			n += b.Rows
		}
		if n != 10 {
			t.Errorf("%d rows of the test set: want 10", n)
		}
	}
}

func TestLRARetrieval(t *testing.T) {
	var b strings.Builder
	for i := range 10 {
		fmt.Fprintf(&b, "%d.0\tA%d\tB%d\tfirst paper %d\tsecond \"paper %d\n", i%2, i, i, i%2, i)
	}
	dir := write(t, map[string]string{"new_aan_pairs.train.tsv": b.String(), "new_aan_pairs.eval.tsv": b.String(), "new_aan_pairs.test.tsv": b.String()})
	solved(t, spec("lra-retrieval", dir, ",length=20"), func(tokens []int32) int32 {
		return classTokens + tokens[12] - '0'
	})
	tokens, _ := mustNew(t, spec("lra-retrieval", dir, ",length=5")).Train(1, 0, 1).Row(0)
	want := append(bytesOf("first"), sepToken)
	want = append(append(want, bytesOf("secon")...), askToken)
	if !slices.Equal(tokens, want) {
		t.Errorf("tokens %v: want %v", tokens, want)
	}
	for _, c := range []struct{ line, want string }{
		{"1\ta\tb\tx", "4 fields: want 5"}, {"2\ta\tb\tx\ty", `label "2": want 0 or 1`}, {"yes\ta\tb\tx\ty", `label "yes"`}, {"NaN\ta\tb\tx\ty", `label "NaN"`},
	} {
		if _, err := parsePair(c.line); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: error %v: want %q", c.line, err, c.want)
		}
	}
	bad := write(t, map[string]string{"new_aan_pairs.train.tsv": "1\ta\tb\tx\ty\n3\ta\tb\tx\ty\n"})
	if _, err := New(spec("lra-retrieval", bad, "")); err == nil || !strings.Contains(err.Error(), `.train.tsv:2: label "3"`) {
		t.Errorf("error %v: want one with file and line", err)
	}
}

func bytesOf(s string) (list []int32) {
	for _, c := range []byte(s) {
		list = append(list, int32(c))
	}
	return list
}

// picture is a CIFAR record of one colour.
func picture(label, r, g, b byte) []byte {
	return slices.Concat([]byte{label}, bytes.Repeat([]byte{r}, 1024), bytes.Repeat([]byte{g}, 1024), bytes.Repeat([]byte{b}, 1024))
}

func TestLRAImage(t *testing.T) {
	var all []byte
	for i := range 10 {
		all = append(all, picture(byte(i), byte(20*i), byte(20*i), byte(20*i))...)
	}
	files := map[string]string{"test_batch.bin": string(all)}
	for i := range 5 {
		files[fmt.Sprintf("data_batch_%d.bin", i+1)] = string(all)
	}
	dir := write(t, files)
	solved(t, spec("lra-image", dir, ""), func(tokens []int32) int32 { return classTokens + (tokens[0]+10)/20 })
	k := mustNew(t, spec("lra-image", dir, ""))
	if info := k.Info(); info.Length != 1025 || info.Vocab != 269 || !strings.HasPrefix(info.Data, "train 45, valid 5, test 10 examples") {
		t.Errorf("%+v", info)
	}
	// By hand: red 255·0.2989 is 76.2195, times 255.5/255 76.37; white 0.9999·255.5 = 255.47.
	for _, c := range []struct{ r, g, b, want byte }{{255, 0, 0, 76}, {0, 255, 0, 149}, {0, 0, 255, 29}, {255, 255, 255, 255}, {0, 0, 0, 0}} {
		list, err := parseCIFAR(picture(3, c.r, c.g, c.b))
		if err != nil || list[0].class != 3 || list[0].bytes[0] != c.want || list[0].bytes[1023] != c.want {
			t.Errorf("%v: %v, error %v: want grey %d", c, list[0].bytes[0], err, c.want)
		}
	}
	for _, c := range []struct {
		data []byte
		want string
	}{{nil, "0 bytes: want records of 3073"}, {all[:3000], "3000 bytes"}, {[]byte("\x1f\x8b"), "unpacked"}, {picture(10, 0, 0, 0), "label 10 of picture 0: want 0 to 9"}} {
		if _, err := parseCIFAR(c.data); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v: want %q", err, c.want)
		}
	}
}

// TestMissingData: the message says what is wanted and where it is.
func TestMissingData(t *testing.T) {
	for _, name := range []string{"lra-text", "lra-retrieval", "lra-image"} {
		for _, s := range []string{name, name + ":path=/none"} {
			_, err := New(s)
			if err == nil || !strings.Contains(err.Error(), "want the folder") || !strings.Contains(err.Error(), "https://") || !strings.Contains(err.Error(), "attnbench data") {
				t.Errorf("%s: error %v: want one that says where the data is", s, err)
			}
		}
	}
	for _, d := range DataSets() {
		if !slices.Contains(Names(), d.Task) || d.Title == "" || d.Licence == "" || d.Source == "" || len(d.Files) == 0 || d.Checked == "" {
			t.Errorf("data set %+v is not described", d)
		}
	}
}

func FuzzPair(f *testing.F) {
	f.Add("1.0\ta\tb\tx\ty")
	f.Fuzz(func(t *testing.T, line string) {
		if e, err := parsePair(line); err == nil && (e.class != 0 && e.class != 1 || bytes.Count(e.bytes, []byte("\t")) != 1) {
			t.Fatalf("%q: %v", line, e)
		}
	})
}

func FuzzCIFAR(f *testing.F) {
	f.Add(picture(1, 2, 3, 4))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := parseCIFAR(data)
		if err == nil && (len(list) != len(data)/cifarRecord || len(list) == 0) {
			t.Fatalf("%d pictures of %d bytes", len(list), len(data))
		}
	})
}
