package public

import (
	"bufio"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// dataFolder is the folder of the real data sets; tests that want it are skipped without.
func dataFolder(t *testing.T) string {
	dir := os.Getenv("ATTNBENCH_DATA")
	if dir == "" {
		t.Skip("ATTNBENCH_DATA is not set: want the folder with the data sets")
	}
	return dir
}

// rows reads a table of the stories260k folder.
func rows(t *testing.T, name string) [][]string {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata/stories260k", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var list [][]string
	for s := bufio.NewScanner(f); s.Scan(); {
		list = append(list, strings.Split(s.Text(), "\t"))
	}
	return list[1:]
}

func number(t *testing.T, s string) float64 {
	t.Helper()
	x, err := strconv.ParseFloat(s, 64)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// column returns whole numbers.
func column(t *testing.T, table [][]string, i int) []int32 {
	t.Helper()
	var list []int32
	for _, r := range table {
		list = append(list, int32(number(t, r[i])))
	}
	return list
}

// checkStories holds a loading of stories260k against the published greedy text and logits, and the loss on a sample.
func checkStories(t *testing.T, path string) {
	t.Helper()
	d, err := LoadDecoder(path, "full")
	if err != nil {
		t.Fatal(err)
	}
	if d.Begin != 1 {
		t.Errorf("%s: begins with %d: want 1", path, d.Begin)
	}
	table := rows(t, "greedy.tsv")
	want := column(t, table, 1)
	got, err := d.Greedy(inference(), []int32{int32(d.Begin)}, len(want))
	if err != nil {
		t.Fatal(err)
	}
	if len(want) != 256 || !slices.Equal(got, want) {
		t.Errorf("%s: greedy tokens %v: want %v", path, got, want)
	}
	tokens := append([]int32{int32(d.Begin)}, want...)
	x := logits(t, d, tokens[:256])
	worst, n := 0.0, 0
	for _, r := range rows(t, "logits.tsv") {
		at := int(number(t, r[0]))*512 + int(number(t, r[1]))
		worst, n = max(worst, math.Abs(float64(x[at])-number(t, r[2]))), n+1
	}
	if n != 6*512 || !(worst < 1e-4) {
		t.Errorf("%s: %d logits differ by %v: want 3072, less than 1e-4", path, n, worst)
	}
	nll := make([]float32, 256)
	if err := d.LossPerToken(inference(), tokens[:256], tokens[1:], 1, 256, nll, nil); err != nil {
		t.Fatal(err)
	}
	for i, r := range table {
		if v := number(t, r[3]); !(math.Abs(float64(nll[i])-v) < 1e-4) {
			t.Fatalf("%s: loss of greedy token %d is %v: want %v", path, i, nll[i], v)
		}
	}
	table = rows(t, "sample512.tsv")
	tokens, best := column(t, table, 1), column(t, table, 3)
	x = logits(t, d, tokens)
	for i, r := range table {
		row, norm := x[i*512:(i+1)*512], 0.0
		for _, v := range row {
			norm += float64(v) * float64(v)
		}
		top := slices.Max(row)
		if !(math.Abs(float64(top)-number(t, r[4])) < 1e-4) || !(math.Abs(math.Sqrt(norm)-number(t, r[5])) < 1e-3) || row[best[i]] != top {
			t.Fatalf("%s: position %d: largest logit %v, norm %v, token %d of %v: want %v", path, i, top, math.Sqrt(norm), best[i], row[best[i]], r)
		}
	}
}

func TestStories(t *testing.T) { checkStories(t, "testdata/stories260k") }

func TestStoriesIsTheSameOnAnyCores(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	tokens := column(t, rows(t, "sample512.tsv"), 1)[:100]
	var want []float32
	for _, procs := range []int{1, 2, 7} {
		runtime.GOMAXPROCS(procs)
		d, err := LoadDecoder("testdata/stories260k", "sliding:window=16,sinks=4")
		if err != nil {
			t.Fatal(err)
		}
		got := slices.Clone(logits(t, d, tokens))
		if want == nil {
			want = got
		}
		for i := range got {
			if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
				t.Fatalf("GOMAXPROCS %d: logit %d is %v: want %v", procs, i, got[i], want[i])
			}
		}
	}
}

func TestDataFolder(t *testing.T) {
	dir := filepath.Join(dataFolder(t), "stories260k")
	checkStories(t, filepath.Join(dir, "stories260K.bin"))
	checkStories(t, dir)
}
