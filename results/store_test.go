package results

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"math"

	"golang.org/x/perf/benchfmt"
	"pgregory.net/rapid"
)

func sample(mech string, n int, seed int) Record {
	return Record{
		Name:   fmt.Sprintf("Prefill/mech=%s/n=%d/heads=8/dim=64/causal=true/kv=8/batch=1", mech, n),
		Iters:  10,
		Config: []Config{{"kernel", "generic"}, {"revision", "1"}, {"seed", fmt.Sprint(seed)}},
		Values: []Value{{0.00125 * float64(n), "sec/op"}, {float64(64 * n), "scratch-B"}},
	}
}

// readBack returns the keys of all results in the file, as benchfmt reads them.
func readBack(t *testing.T, path string) []string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var keys []string
	r := benchfmt.NewReader(f, path)
	for r.Scan() {
		switch rec := r.Result().(type) {
		case *benchfmt.Result:
			keys = append(keys, (*result)(rec).key())
		case *benchfmt.SyntaxError:
			t.Error(rec)
		}
	}
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	return keys
}

func TestStoreResumes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.txt")
	var want []string
	for session := range 3 {
		s, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if s.Len() != len(want) || s.Cut() != 0 {
			t.Errorf("session %d: %d records, %d bytes cut; want %d, 0", session, s.Len(), s.Cut(), len(want))
		}
		for _, k := range want {
			if !s.Has(k) {
				t.Errorf("session %d: lost %s", session, k)
			}
		}
		for seed := range 3 {
			r := sample("a|b:x=1,y=2", 64<<session, seed)
			if seed == 2 {
				r.Config = r.Config[1:] // the kernel line must not carry over
			}
			if err := s.Append(r); err != nil {
				t.Fatal(err)
			}
			want = append(want, r.Key())
			if err := s.Append(r); err == nil || !strings.Contains(err.Error(), "there already") {
				t.Errorf("second time: %v", err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if got := readBack(t, path); !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
	text, _ := os.ReadFile(path)
	if n := strings.Count(string(text), "Unit sec/op "); n != 1 {
		t.Errorf("%d unit lines of sec/op in\n%s", n, text)
	}
}

// TestCutAnywhere: whatever prefix of the file a crash leaves, Open keeps exactly the whole records.
func TestCutAnywhere(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "r.txt")
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	ends := []int64{s.size}
	for seed := range 3 {
		if err := s.Append(sample("m", 1024, seed)); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, s.size)
	}
	s.Close()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(text) + 1 {
		for _, tail := range []string{"", "\x00\x00\x00"} { // a block that never reached the disk
			if tail != "" && cut%7 != 0 || testing.Short() && cut%5 != 0 {
				continue
			}
			p := filepath.Join(dir, "cut.txt")
			if err := os.WriteFile(p, append(text[:cut:cut], tail...), 0o666); err != nil {
				t.Fatal(err)
			}
			s, err := Open(p)
			if err != nil {
				if cut < len(magic) && tail != "" {
					continue // no store: not ours to cut
				}
				t.Fatalf("cut at %d: %v", cut, err)
			}
			whole := 0
			for whole+1 < len(ends) && ends[whole+1] <= int64(cut) {
				whole++
			}
			if s.Len() != whole {
				t.Fatalf("cut at %d: %d records: want %d", cut, s.Len(), whole)
			}
			for seed := whole; seed < 3; seed++ {
				if err := s.Append(sample("m", 1024, seed)); err != nil {
					t.Fatal(err)
				}
			}
			s.Close()
			if got, _ := os.ReadFile(p); string(got) != string(text) {
				t.Fatalf("cut at %d: after resuming\n%s\nwant\n%s", cut, got, text)
			}
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		return p
	}
	good := write("good.txt", "")
	s, err := Open(good)
	if err != nil {
		t.Fatal(err)
	}
	for seed := range 2 {
		if err := s.Append(sample("m", 1024, seed)); err != nil {
			t.Fatal(err)
		}
	}
	text, _ := os.ReadFile(good)
	for _, c := range []struct{ name, path, want string }{
		{"a second writer", good, "open for writing elsewhere"},
		{"foreign file", write("go.txt", "goos: linux\nBenchmarkX 1 5 ns/op\n"), "not a store of results"},
		{"changed by hand", write("hand.txt", strings.Replace(string(text), "1.28", "9.28", 1)), "line 2: a record differs from its mark"},
		{"directory", dir, "no regular file"},
		{"no directory", filepath.Join(dir, "none", "r.txt"), "no such file"},
		{"below a file", filepath.Join(good, "r.txt"), "not a directory"},
		{"full disk", "/dev/full", "/dev/full: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			var before []byte
			if c.path != "/dev/full" { // it reads as zeros without end
				before, _ = os.ReadFile(c.path)
			}
			s, err := Open(c.path)
			if err == nil {
				s.Close()
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.path) {
				t.Errorf("error %q: want %q and the path", err, c.want)
			}
			if c.path != "/dev/full" {
				if after, _ := os.ReadFile(c.path); string(after) != string(before) {
					t.Errorf("the file was changed")
				}
			}
		})
	}
	s.Close()
	if s, err = Open(good); err != nil {
		t.Errorf("after Close: %v", err)
	} else {
		s.Close()
	}
}

func TestAppendRefuses(t *testing.T) {
	set := func(f func(*Record)) Record {
		r := sample("m", 64, 0)
		f(&r)
		return r
	}
	for _, c := range []struct {
		want string
		rec  Record
	}{
		{"value NaN sec/op: want a finite number", set(func(r *Record) { r.Values[0].Value = math.NaN() })},
		{"value +Inf sec/op: want a finite number", set(func(r *Record) { r.Values[0].Value = math.Inf(1) })},
		{"value -Inf scratch-B", set(func(r *Record) { r.Values[1].Value = math.Inf(-1) })},
		{`unit "ms/op": want base units, such as sec/op`, set(func(r *Record) { r.Values[0].Unit = "ms/op" })},
		{`unit "µs/op": want base units`, set(func(r *Record) { r.Values[0].Unit = "µs/op" })},
		{`unit "ns/op": want base units`, set(func(r *Record) { r.Values[0].Unit = "ns/op" })},
		{`unit "MB/s": want base units`, set(func(r *Record) { r.Values[0].Unit = "MB/s" })},
		{`unit "GFLOP/s": want base units`, set(func(r *Record) { r.Values[0].Unit = "GFLOP/s" })},
		{`unit "scratch-KiB": want base units`, set(func(r *Record) { r.Values[1].Unit = "scratch-KiB" })},
		{`unknown unit "apples"`, set(func(r *Record) { r.Values[0].Unit = "apples" })},
		{`unit "": want one word`, set(func(r *Record) { r.Values[0].Unit = "" })},
		{`unit "a b": want one word`, set(func(r *Record) { r.Values[0].Unit = "a b" })},
		{"unit sec/op: given twice", set(func(r *Record) { r.Values[1].Unit = "sec/op" })},
		{"no values", set(func(r *Record) { r.Values = nil })},
		{"0 iterations", set(func(r *Record) { r.Iters = 0 })},
		{`cell "a b": bad name`, set(func(r *Record) { r.Name = "a b" })},
		{`cell "": bad name`, set(func(r *Record) { r.Name = "" })},
		{"ends in -7, which is read as GOMAXPROCS", set(func(r *Record) { r.Name = "Accuracy/task=t/mech=x-7" })},
		{`key "Seed"`, set(func(r *Record) { r.Config[0].Key = "Seed" })},
		{`key "a b"`, set(func(r *Record) { r.Config[0].Key = "a b" })},
		{`key "a:b"`, set(func(r *Record) { r.Config[0].Key = "a:b" })},
		{`key ""`, set(func(r *Record) { r.Config[0].Key = "" })},
		{`value "a\nBenchmarkX 1 1 sec/op"`, set(func(r *Record) { r.Config[0].Value = "a\nBenchmarkX 1 1 sec/op" })},
		{`value ""`, set(func(r *Record) { r.Config[0].Value = "" })},
		{`value " x"`, set(func(r *Record) { r.Config[0].Value = " x" })},
		{"configuration kernel: given twice", set(func(r *Record) { r.Config[1].Key = "kernel" })},
		{"bytes in a line", set(func(r *Record) { r.Config[0].Value = strings.Repeat("x", 70_000) })},
		{"bytes in a line", set(func(r *Record) { r.Name = strings.Repeat("x", 70_000) })},
	} {
		path := filepath.Join(t.TempDir(), "r.txt")
		s, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		err = s.Append(c.rec)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("error %v: want %q", err, c.want)
		}
		if c.rec.Name != "" && err != nil && !strings.Contains(err.Error(), c.rec.Name[:1]) {
			t.Errorf("error %q does not name the cell", err)
		}
		if err := s.Append(sample("m", 64, 0)); err != nil {
			t.Errorf("a good record after a bad one: %v", err)
		}
		s.Close()
		if got := readBack(t, path); len(got) != 1 {
			t.Errorf("%d records after %q", len(got), c.want)
		}
	}
}

// TestRoundTrip: what Append takes, benchfmt reads back unchanged.
func TestRoundTrip(t *testing.T) {
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		path := filepath.Join(dir, fmt.Sprint(n))
		s, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		var want []Record
		for range rapid.IntRange(1, 4).Draw(t, "records") {
			r := Record{Name: rapid.StringMatching(`[A-Z][a-z]*(/[a-z]+=[^ \t\n]{1,5}){0,3}`).Draw(t, "name"), Iters: rapid.IntRange(0, 3).Draw(t, "iters")}
			for _, k := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"seed", "cpu", "größe", "x"}), 0, 3, rapid.ID[string]).Draw(t, "keys") {
				r.Config = append(r.Config, Config{k, rapid.OneOf(rapid.String(), rapid.StringMatching(`[0-9]{1,20}`)).Draw(t, "config")})
			}
			for _, u := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"sec/op", "accuracy", "scratch-B", SeedUnit}), 0, 3, rapid.ID[string]).Draw(t, "units") {
				r.Values = append(r.Values, Value{rapid.Float64().Draw(t, "value"), u})
			}
			if s.Append(r) == nil {
				want = append(want, r)
			}
		}
		set, err := ReadFiles(path)
		if len(want) == 0 {
			if err == nil {
				t.Fatal("read a store without records")
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(set.Results) != len(want) {
			t.Fatalf("%d results: want %d", len(set.Results), len(want))
		}
		for i, res := range set.Results {
			want[i] = want[i].seedAsValue()
			if (*result)(res).key() != want[i].Key() || res.Iters != want[i].Iters || len(res.Values) != len(want[i].Values) {
				t.Fatalf("got %v, want %v", res, want[i])
			}
			for j, v := range res.Values {
				if v.Value != want[i].Values[j].Value || v.Unit != want[i].Values[j].Unit {
					t.Fatalf("value %v: want %v", v, want[i].Values[j])
				}
			}
			for _, c := range want[i].Config {
				if got := res.GetConfig(c.Key); got != c.Value {
					t.Fatalf("config %s is %q: want %q", c.Key, got, c.Value)
				}
			}
		}
	})
}

// failing is a file whose disk is full after some bytes.
type failing struct {
	file
	room       int64
	noTruncate bool
}

func (f *failing) WriteAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > f.room {
		n, _ := f.file.WriteAt(p[:max(0, f.room-off)], off)
		return n, syscall.ENOSPC
	}
	return f.file.WriteAt(p, off)
}

func (f *failing) Truncate(n int64) error {
	if f.noTruncate {
		return syscall.EIO
	}
	return f.file.Truncate(n)
}

// TestFullDisk: a disk that is full after n bytes, for every n, costs no whole record.
func TestFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.txt")
	for _, noTruncate := range []bool{false, true} {
		for room := int64(0); ; room += 1 + room%7 {
			os.Remove(path)
			f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
			if err != nil {
				t.Fatal(err)
			}
			s, err := newStore(path, &failing{f, room, noTruncate}, nil)
			done := 0
			if err == nil {
				for seed := range 3 {
					if err = s.Append(sample("m", 64, seed)); err != nil {
						break
					}
					done++
				}
				if err != nil {
					if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), path) {
						t.Fatalf("room %d: error %v", room, err)
					}
					if again := s.Append(sample("m", 128, 9)); again == nil {
						t.Fatalf("room %d: a record after a failed write", room)
					}
				}
			}
			f.Close()
			s, errOpen := Open(path)
			if errOpen != nil {
				t.Fatalf("room %d: %v", room, errOpen)
			}
			if s.Len() != done {
				t.Fatalf("room %d: %d records: want %d", room, s.Len(), done)
			}
			s.Close()
			if err == nil {
				break
			}
		}
	}
}

// TestKill kills a writer at random moments, 20 times. Every record ends up there exactly once.
func TestKill(t *testing.T) {
	const cells = 400
	if path := os.Getenv("ATTNBENCH_TEST_STORE"); path != "" {
		s, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		for seed := range cells {
			if r := sample("m", 64, seed); !s.Has(r.Key()) {
				if err := s.Append(r); err != nil {
					t.Fatal(err)
				}
			}
		}
		return
	}
	if testing.Short() {
		t.Skip("starts 20 processes")
	}
	path := filepath.Join(t.TempDir(), "r.txt")
	writer := func() *exec.Cmd {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKill$")
		cmd.Env = append(os.Environ(), "ATTNBENCH_TEST_STORE="+path)
		return cmd
	}
	for i := range 20 {
		cmd := writer()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(5+7*i%40) * time.Millisecond)
		cmd.Process.Kill()
		cmd.Wait()
	}
	if out, err := writer().CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	got := readBack(t, path)
	slices.Sort(got)
	if n := len(slices.Compact(slices.Clone(got))); len(got) != cells || n != cells {
		t.Errorf("%d records, %d different: want %d", len(got), n, cells)
	}
	if left, _ := filepath.Glob(path + "*"); len(left) != 1 {
		t.Errorf("files left: %q", left)
	}
}
