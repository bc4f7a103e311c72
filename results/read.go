package results

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"

	"attnbench/internal/wholefile"

	"golang.org/x/perf/benchfmt"
	"golang.org/x/perf/benchunit"
)

// Set is what was read of some benchmark files, in the order of files and lines.
type Set struct {
	// Results are the benchmark lines. Each has its file's name as the internal configuration .file.
	Results []*benchfmt.Result
	// Warnings tell of lines that were left out, and why.
	Warnings []error

	reader benchfmt.Reader // keeps the unit lines of all files
}

// ReadFiles reads Go benchmark files: stores, what go test -bench printed, and others of that format. The path -
// is the standard input. It is an error when they hold no result at all.
func ReadFiles(paths ...string) (*Set, error) {
	s := new(Set)
	for i, path := range paths {
		if slices.Contains(paths[:i], path) {
			return nil, fmt.Errorf("%s: given twice: want each file once", path)
		}
		if err := s.readFile(path); err != nil {
			return nil, err
		}
	}
	if len(s.Results) == 0 {
		err := fmt.Errorf("no benchmark results in %q: want files in Go benchmark format", paths)
		if len(s.Warnings) > 0 {
			err = fmt.Errorf("%w (%w)", err, s.Warnings[0])
		}
		return nil, err
	}
	return s, nil
}

func (s *Set) readFile(path string) error {
	if path == "-" {
		return s.Read(os.Stdin, "-")
	}
	data, err := wholefile.Read(path)
	if err != nil {
		return err
	}
	return s.Read(bytes.NewReader(data), path)
}

// Read adds the results of one file. Lines that look like results and are not become warnings.
func (s *Set) Read(r io.Reader, file string) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	data = s.blankCut(data, file)
	s.reader.Reset(bytes.NewReader(data), file, ".file", file)
	for s.reader.Scan() {
		switch rec := s.reader.Result().(type) {
		case *benchfmt.Result:
			if err := checkResult(rec); err != nil {
				_, line := rec.Pos()
				s.warn("%s:%d: %w: left out", file, line, err)
				continue
			}
			rec = rec.Clone()
			rec.Name = ownName(rec.Name)
			for i := range rec.Values {
				// The reader tidies ns/op to sec/op except where the value stays the same, as 0 does.
				_, rec.Values[i].Unit = benchunit.Tidy(rec.Values[i].Value, rec.Values[i].Unit)
			}
			s.Results = append(s.Results, rec)
		case *benchfmt.SyntaxError:
			s.warn("%w", rec)
		}
	}
	return s.reader.Err()
}

// Add adds records from memory.
func (s *Set) Add(records ...Record) error {
	for i := range records {
		if err := records[i].check(); err != nil {
			return err
		}
		s.Results = append(s.Results, records[i].result().bench())
	}
	return nil
}

// Keep leaves out the results whose key (Record.Key) f is false of.
func (s *Set) Keep(f func(key string) bool) {
	s.Results = slices.DeleteFunc(s.Results, func(r *benchfmt.Result) bool { return !f((*result)(r).key()) })
}

// Each calls f for every result.
func (s *Set) Each(f func(key string, values []Value)) {
	for _, r := range s.Results {
		var values []Value
		for _, v := range r.Values {
			values = append(values, Value{v.Value, v.Unit})
		}
		f((*result)(r).key(), values)
	}
}

// Rename gives all results one value of a configuration key, for a table of what would else stand in several.
func (s *Set) Rename(key, value string) {
	for _, r := range s.Results {
		r.SetConfig(key, value)
	}
}

func (s *Set) warn(format string, args ...any) {
	s.Warnings = append(s.Warnings, fmt.Errorf(format, args...))
}

// blankCut returns data without records that a crash cut, and without a last line that has no
// end: a number that was cut would still parse. What it leaves out it replaces by empty lines.
func (s *Set) blankCut(data []byte, file string) []byte {
	var keep []byte
	from := 0
	drop := func(start, end int) {
		line := 1 + bytes.Count(data[:start], []byte("\n"))
		s.warn("%s:%d: a record is cut: left out", file, line)
		keep = append(keep, data[from:start]...)
		keep = append(keep, bytes.Repeat([]byte("\n"), bytes.Count(data[start:end], []byte("\n")))...)
		from = end
	}
	if bytes.HasPrefix(data, []byte(magic)) {
		eachPiece(data, func(start, end int, whole bool) {
			if !whole {
				drop(start, end)
			}
		})
	} else if last := bytes.LastIndexByte(data, '\n') + 1; bytes.HasPrefix(data[last:], []byte("Benchmark")) {
		drop(last, len(data))
	}
	if from == 0 {
		return data
	}
	return append(keep, data[from:]...)
}

// checkResult reports a line that the format allows and no table can show.
func checkResult(r *benchfmt.Result) error {
	if len(r.Name) == 0 {
		return fmt.Errorf("a benchmark without a name")
	}
	for i, v := range r.Values {
		if slices.ContainsFunc(r.Values[:i], func(w benchfmt.Value) bool { return w.Unit == v.Unit }) {
			return fmt.Errorf("cell %s: unit %s: given twice", r.Name, v.Unit)
		}
	}
	return nil
}

// ownName leaves out of a benchmark's name what a Go function put in front of it:
// Attention/Prefill/mech=full is Prefill/mech=full, and so is comparable with the command's.
func ownName(name benchfmt.Name) benchfmt.Name {
	_, parts := name.Parts()
	if len(parts) < 2 || bytes.IndexByte(parts[0], '=') >= 0 {
		return name
	}
	for _, key := range []string{"/mech=", "/task="} {
		if bytes.HasPrefix(parts[1], []byte(key)) {
			return name[bytes.IndexByte(name, '/')+1:]
		}
	}
	return name
}

// at names a result by the line that it was read from, or by its cell.
func at(r *benchfmt.Result) string {
	file, line := r.Pos()
	if file == "" {
		return "cell " + string(r.Name)
	}
	return fmt.Sprintf("%s:%d: cell %s", file, line, r.Name)
}

// checkFigures reports the first value that no statistic is defined on, by file, line and cell.
func checkFigures(r *benchfmt.Result) error {
	for _, v := range r.Values {
		if err := checkBase(v.Unit); err != nil {
			if file, line := r.Pos(); file != "" {
				return fmt.Errorf("%s:%d: %w", file, line, err)
			}
			return fmt.Errorf("%s: %w", at(r), err)
		}
		if err := checkValue(v.Value, v.Unit); err != nil {
			return fmt.Errorf("%s: %w", at(r), err)
		}
	}
	return nil
}

// unit returns what is known of a unit: what the files say, and what the table of units says where they are silent.
func (s *Set) unit(name string) Unit {
	u, known := LookupUnit(name)
	u.Name = name
	meta := benchfmt.UnitMetadataMap(s.reader.Units())
	if m := meta.Get(name, "better"); m != nil || !known {
		u.Better = meta.GetBetter(name)
	}
	if m := meta.Get(name, "assume"); m != nil {
		u.Exact = m.Value == "exact"
	}
	return u
}
