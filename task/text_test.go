package task

import (
	"bytes"
	"compress/gzip"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func valueOf(values []Value, unit string) Value {
	for _, v := range values {
		if v.Unit == unit {
			return v
		}
	}
	return Value{}
}

func writeFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
	}
}

func zip(data []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write(data)
	z.Close()
	return b.Bytes()
}

func TestTextFromFileGzAndFolder(t *testing.T) {
	dir := t.TempDir()
	all := bytes.Repeat([]byte("one two three\n"), 50)
	writeFile(t, filepath.Join(dir, "plain.txt"), all)
	writeFile(t, filepath.Join(dir, "packed"), zip(all)) // known by its content, not its name
	writeFile(t, filepath.Join(dir, "many, with = signs", "b", "1.txt"), all[400:])
	writeFile(t, filepath.Join(dir, "many, with = signs", "a.txt"), zip(all[:399]))
	writeFile(t, filepath.Join(dir, "many, with = signs", "empty.d", ".keep"), nil)
	var data []string
	for _, name := range []string{"plain.txt", "packed", "many%2C with %3D signs"} {
		k := mustNew(t, "text:path="+dir+"/"+name+",length=16")
		c := k.(*text).corpus
		if got := len(c.train) + len(c.valid) + len(c.test); got != len(all) && name != "many%2C with %3D signs" {
			t.Errorf("%s: %d bytes: want %d", name, got, len(all))
		}
		if n := len(all) * 9 / 10; len(c.test) < len(all)-n || len(c.valid) != (len(c.train)+len(c.valid))/20 {
			t.Errorf("%s: parts of %d, %d, %d bytes", name, len(c.train), len(c.valid), len(c.test))
		}
		data = append(data, k.Info().Data)
	}
	if data[0] != data[1] || data[0] == data[2] {
		t.Errorf("data of equal and unequal texts: %q", data)
	}
	joined := mustNew(t, "text:path="+dir+"/many%2C with %3D signs,length=16").(*text).corpus
	whole := slices.Concat(joined.valid, joined.train, joined.test)
	if want := slices.Concat(all[:399], []byte{0}, all[400:], []byte{0}); !bytes.Equal(whole, want) {
		t.Errorf("folder reads as %q: want %q", whole, want)
	}
	if _, err := New("text:path=" + t.TempDir()); err == nil || !strings.Contains(err.Error(), "no files") {
		t.Errorf("empty folder: error %v", err)
	}
}

func TestBooksFolder(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "a.gz"), zip([]byte("aaaaaaaaaa")))
	writeFile(t, filepath.Join(dir, "b.txt"), []byte("bbbbbbbbbb"))
	writeFile(t, filepath.Join(dir, "c.txt"), []byte("cccc"))
	writeFile(t, filepath.Join(dir, "d.txt"), []byte("dddddd"))
	index := filepath.Join(dir, "index.tsv")
	good := "lm_split\tyear\tfile\r\ntrain\t1\ta.gz\r\ntest\t2\tc.txt\r\nvalid\t2\td.txt\r\n\r\ntrain\t3\tb.txt"
	writeFile(t, index, []byte(good))
	c := mustNew(t, "books:length=4,path="+dir).(*text).corpus
	if string(c.train) != "aaaaaaaaaa\x00bbbbbbbbbb" || string(c.valid) != "dddddd" || string(c.test) != "cccc" {
		t.Errorf("parts %q, %q, %q", c.train, c.valid, c.test)
	}
	for _, f := range []struct{ index, want string }{
		{"file\tsplit\na\ttrain\n", "index.tsv:1: columns"},
		{"file\tlm_split\na.gz\ttraining\n", `index.tsv:2: lm_split "training": want train, valid or test`},
		{"file\tlm_split\na.gz\ttrain\nb.txt\n", "index.tsv:3: 1 columns: want at least 2"},
		{"file\tlm_split\n../x\ttrain\n", `index.tsv:2: file "../x": want a path within the folder`},
		{"file\tlm_split\nnone\ttrain\n", "no such file"},
		{"file\tlm_split\na.gz\ttrain\n", "0 bytes of valid text"},
		{"", "0 bytes of training text"},
	} {
		writeFile(t, index, []byte(f.index))
		if _, err := New("books:length=4,path=" + dir); err == nil || !strings.Contains(err.Error(), f.want) {
			t.Errorf("%q: error %v: want %q", f.index, err, f.want)
		}
	}
}

func FuzzIndex(f *testing.F) {
	f.Add("file\tlm_split\na.gz\ttrain\n\nb\ttest\r\n")
	f.Add("lm_split\tfile\ntrain\t../a\n")
	f.Fuzz(func(t *testing.T, s string) {
		parts, err := parseIndex(s)
		if err != nil {
			return
		}
		for _, names := range parts {
			for _, name := range names {
				if !filepath.IsLocal(name) {
					t.Fatalf("file %q lies outside the folder", name)
				}
			}
		}
	})
}

func TestGoSource(t *testing.T) {
	root := t.TempDir()
	for i, name := range []string{"a/1.go", "a/2.go", "a/3.go", "a/4.go", "a/5.go", "a/6.go", "a/7.go", "a/8.go", "b/cmd/9.go", "z.go"} {
		writeFile(t, filepath.Join(root, "src", name), bytes.Repeat([]byte{byte('0' + i)}, 3))
	}
	for _, name := range []string{"a/1_test.go", "a/testdata/x.go", "vendor/y/y.go", "cmd/go/main.go", "a/README"} {
		writeFile(t, filepath.Join(root, "src", name), []byte("not this"))
	}
	if _, err := readGoSource(root); err == nil {
		t.Errorf("source without a version is taken")
	}
	writeFile(t, filepath.Join(root, "VERSION"), []byte("go1.99\ntime 2026\n"))
	c, err := readGoSource(root)
	if err != nil {
		t.Fatal(err)
	}
	if string(c.train) != "000\x00111\x00222\x00333\x00444\x00555\x00666\x00777" || string(c.valid) != "888" || string(c.test) != "999" {
		t.Errorf("parts %q, %q, %q", c.train, c.valid, c.test)
	}
	if !strings.HasPrefix(c.data(), "go1.99, train ") {
		t.Errorf("data %q: want the version first", c.data())
	}
	if _, err := readGoSource(""); err == nil {
		t.Errorf("no installation is taken")
	}
	if testing.Short() || goRoot() == "" {
		return
	}
	if k := mustNew(t, "gosrc"); !strings.HasPrefix(k.Info().Data, "go1.") {
		t.Errorf("data %q: want Go's version", k.Info().Data)
	}
}

// TestEvalRows: labels follow their tokens, and every byte but the first is scored once.
func TestEvalRows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		test := rapid.SliceOfN(rapid.Byte(), 2, 60).Draw(t, "test")
		length := rapid.IntRange(1, 30).Draw(t, "length")
		stride := rapid.IntRange(0, length).Draw(t, "stride")
		k, err := newText(Info{}, &corpus{train: make([]byte, length+1), valid: test, test: test}, length, stride, 0)
		if err != nil {
			t.Fatal(err)
		}
		var got []byte
		for b := range k.Eval(Test, rapid.IntRange(0, 5).Draw(t, "rows")) {
			for r := range b.Rows {
				tokens, labels := b.Row(r)
				for i, l := range labels {
					if l < 0 {
						continue
					}
					got = append(got, byte(l))
					if i+1 < length && labels[i+1] >= 0 && tokens[i+1] != l {
						t.Fatalf("label %d at %d: the next token is %d", l, i, tokens[i+1])
					}
				}
			}
		}
		if !bytes.Equal(got, test[1:]) {
			t.Fatalf("scored %v of %v", got, test)
		}
	})
}

// TestConstantLoss: a model that gives each token the loss 1 has 1/ln 2 bits a byte under any window.
func TestConstantLoss(t *testing.T) {
	c := &corpus{train: make([]byte, 50), valid: make([]byte, 10), test: []byte("0123456789")}
	for window := 2; window <= 12; window++ {
		for stride := 1; stride < window; stride++ {
			k, err := newText(Info{}, c, window-1, stride, 0)
			if err != nil {
				t.Fatal(err)
			}
			score := k.NewScore()
			for b := range k.Eval(Test, 2) {
				nats := make([]float32, len(b.Tokens))
				for i := range nats {
					nats[i] = 1
					if b.Labels[i] < 0 {
						nats[i] = float32(math.NaN()) // never read
					}
				}
				if err := score.Add(b, nats, nil); err != nil {
					t.Fatal(err)
				}
			}
			values := score.Values()
			if v := values[0]; v.Value != math.Log2E || v.Count != 9 {
				t.Errorf("window %d, stride %d: %v: want %v over 9", window, stride, v, math.Log2E)
			}
			sum := 0
			for _, v := range values {
				if strings.HasPrefix(v.Unit, "bits/byte@") {
					sum += v.Count
				}
			}
			if n := valueOf(values, "recall-bits/byte").Count + valueOf(values, "rest-bits/byte").Count; sum != 9 || n != 9 {
				t.Errorf("window %d, stride %d: buckets count %d, recall and rest %d: want 9", window, stride, sum, n)
			}
		}
	}
}

func TestRecallSlice(t *testing.T) {
	for _, c := range []struct {
		row    string
		recall string // x where a label completes a pair seen before
	}{
		{"abcabc", "...xx"}, // ab and then bc; ca is new
		{"aaaa", ".xx"},     // the pair may overlap the one before
		{"abababa", "..xxxx"},
		{"abcdef", "....."},
		{"abcbab", "....x"},
	} {
		k, err := newText(Info{}, &corpus{train: make([]byte, 99), valid: []byte("ab"), test: []byte(c.row)}, len(c.row)-1, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		for i := range c.recall {
			score := k.NewScore()
			for b := range k.Eval(Test, 1) {
				for j := range b.Labels {
					if j != i {
						b.Labels[j] = -1
					}
				}
				if err := score.Add(b, make([]float32, len(b.Tokens)), nil); err != nil {
					t.Fatal(err)
				}
			}
			if got := valueOf(score.Values(), "recall-bits/byte").Count == 1; got != (c.recall[i] == 'x') {
				t.Errorf("%s: %c at %d is recall: %v", c.row, c.row[i+1], i+1, got)
			}
		}
	}
}

func TestTrainRowsComeFromTheTrainingPart(t *testing.T) {
	c := &corpus{train: []byte("abcdefgh"), valid: []byte("XX"), test: []byte("YY")}
	k, err := newText(Info{}, c, 5, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	starts := map[int32]int{}
	for step := range 50 {
		b := k.Train(3, step, 2)
		for i := range b.Tokens {
			if b.Labels[i] != b.Tokens[i]+1 {
				t.Fatalf("label %c after %c", b.Labels[i], b.Tokens[i])
			}
		}
		starts[b.Tokens[0]]++
		starts[b.Tokens[5]]++
	}
	if len(starts) != 3 { // a, b and c: all places that leave room for the last label
		t.Errorf("rows start at %v: want all of a, b, c", starts)
	}
}

func TestSpread(t *testing.T) {
	all := mustNew(t, "opticks:length=100").(*text).windows[Test]
	some := mustNew(t, "opticks:length=100,eval=1000").(*text).windows[Test]
	if len(some) != 10 || some[0] != all[0] || some[9].From < 50000 {
		t.Errorf("%d windows, from %v to %v: want 10, spread evenly", len(some), some[0], some[len(some)-1])
	}
}
