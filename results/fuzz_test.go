package results

import (
	"bytes"
	"encoding/csv"
	"os"
	"strings"
	"testing"
)

// FuzzRead: whatever a file holds, reading and drawing it neither panic nor show what is no number.
func FuzzRead(f *testing.F) {
	for _, name := range []string{"testdata/sweep.txt", "testdata/gotest.txt"} {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text[:min(len(text), 2000)])
	}
	f.Add([]byte("Unit a better=higher\nUnit a better=lower\nBenchmark 1 1 a\nBenchmarkX 1 1 a 2 a\nBenchmarkX/-2 1 0 ns/op"))
	f.Add([]byte("# attnbench results\nkernel: a\nBenchmarkA/mech=x|y/n=1 1 1 sec/op 7 seed\n# end 00000000\nBenchmarkA 1 NaN sec/op\n"))
	f.Add([]byte("BenchmarkA/Prefill/mech=a-7 1 1e400 sec/op -1 accuracy\nBenchmark/mech=-1 1 0x1p-1074 B/s\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s := new(Set)
		if err := s.Read(bytes.NewReader(data), "f"); err != nil {
			return
		}
		for _, q := range []Query{{}, {Row: ".fullname", Col: ".file"}} {
			tables, _, err := s.Tables(q)
			if err != nil {
				continue
			}
			var b bytes.Buffer
			if err := WriteTables(&b, CSV, tables); err != nil {
				t.Fatal(err)
			}
			rows, err := csv.NewReader(&b).ReadAll()
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range rows {
				for _, c := range r[len(r)-5:] {
					if strings.Contains(c, "NaN") || strings.Contains(c, "Inf") {
						t.Fatalf("row %q", r)
					}
				}
			}
			for _, f := range []Format{Text, Markdown} {
				if err := WriteTables(&b, f, tables); err != nil {
					t.Fatal(err)
				}
			}
		}
		Compare(s, s, Query{})
	})
}

// FuzzStore: a store that was damaged in any way is read without its damaged records, and opened or refused without a panic.
func FuzzStore(f *testing.F) {
	f.Add([]byte(magic), 0, byte(0))
	f.Add([]byte(magic+"Unit sec/op better=lower\n\nseed: 1\n\nBenchmarkA 1 1 sec/op\n# end 8e0a3cf5\n"), 40, byte('x'))
	f.Fuzz(func(t *testing.T, data []byte, at int, b byte) {
		if at >= 0 && at < len(data) {
			data[at] = b
		}
		path := t.TempDir() + "/r.txt"
		if err := os.WriteFile(path, data, 0o666); err != nil {
			t.Fatal(err)
		}
		ReadFiles(path)
		s, err := Open(path)
		if err != nil {
			if got, _ := os.ReadFile(path); !bytes.Equal(got, data) {
				t.Fatalf("refused with %v, but changed", err)
			}
			return
		}
		defer s.Close()
		r := sample("m", 1, 1)
		if s.Has(r.Key()) {
			return
		}
		if err := s.Append(r); err != nil {
			t.Fatal(err)
		}
	})
}
