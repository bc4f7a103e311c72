// Package results keeps measurements in Go benchmark files and draws tables and comparisons from
// them. What it writes benchstat reads, and it reads what go test -bench writes.
package results

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/perf/benchfmt"
)

// A store is a Go benchmark file whose first line is magic. A record in it is
//
//	unit lines that are new to the file
//	configuration lines that changed
//	the Benchmark line
//	# end CRC32
//
// where CRC32, in eight hexadecimal digits, is the IEEE sum of the record's bytes before its mark. The benchmark format
// ignores both kinds of # line. A record counts only with its mark: a Benchmark line that a crash
// cut in the middle of a number would still parse, and a block that never reached the disk reads as zeros.
const (
	magic     = "# attnbench results\n"
	endPrefix = "# end "
	endLen    = len(endPrefix) + 8 + 1
	maxRecord = 60_000 // benchfmt reads lines below 64 KiB
)

func appendEnd(record []byte) []byte {
	return fmt.Appendf(record, "%s%08x\n", endPrefix, crc32.ChecksumIEEE(record))
}

// eachPiece cuts a store's bytes, after its first line, at the end marks and calls f for each piece with its
// mark. whole is false for one whose mark is missing or wrong.
func eachPiece(data []byte, f func(start, end int, whole bool)) {
	start := len(magic)
	for at := start; at < len(data); {
		end := bytes.IndexByte(data[at:], '\n')
		if end < 0 {
			break
		}
		line := data[at : at+end+1]
		next := at + len(line)
		if sum, ok := endMark(line); ok {
			f(start, next, sum == crc32.ChecksumIEEE(data[start:at]))
			start = next
		} else if string(line) == magic { // stores that were put together into one file
			if at > start {
				f(start, at, false)
			}
			start = next
		}
		at = next
	}
	if start < len(data) {
		f(start, len(data), false)
	}
}

func endMark(line []byte) (sum uint32, ok bool) {
	if len(line) != endLen || !bytes.HasPrefix(line, []byte(endPrefix)) {
		return 0, false
	}
	n, err := strconv.ParseUint(string(line[len(endPrefix):endLen-1]), 16, 32)
	return uint32(n), err == nil
}

// file is what Store asks of an *os.File.
type file interface {
	io.ReaderAt
	io.WriterAt
	Truncate(int64) error
	Sync() error
	Close() error
}

// Store is a growing file of results that survives a kill at any moment: a record is there whole or not
// at all. One Store at a time has the file. Its methods are not safe for concurrent use.
type Store struct {
	path  string
	f     file
	size  int64 // of the whole records
	cut   int64
	keys  map[string]bool
	units map[string]bool // whose lines the file has
	buf   bytes.Buffer
	w     *benchfmt.Writer // into buf; remembers the configuration
	err   error            // of an earlier write, after which the writer's memory is wrong
}

// Open opens the store at path, or makes one. What a crash left of an unfinished record is cut
// off. It is an error when the file holds anything but a store, when another process
// has it open, and when it cannot be written.
func Open(path string) (*Store, error) {
	fail := func(err error) (*Store, error) {
		var p *os.PathError
		if errors.As(err, &p) {
			return nil, fmt.Errorf("results file %s: %w", path, p.Err)
		}
		return nil, fmt.Errorf("results file %s: %w", path, err)
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return fail(errors.New("it is no regular file: want a file that can be read back"))
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return fail(err)
	}
	if err := lockFile(f); err != nil {
		f.Close()
		return fail(err)
	}
	data, err := io.ReadAll(f)
	if err == nil {
		var s *Store
		if s, err = newStore(path, f, data); err == nil {
			if err = syncDir(filepath.Dir(path)); err == nil {
				return s, nil
			}
		}
	}
	f.Close()
	return fail(err)
}

// newStore makes a store of f, which holds data.
func newStore(path string, f file, data []byte) (*Store, error) {
	s := &Store{path: path, f: f, keys: map[string]bool{}, units: map[string]bool{}}
	s.w = benchfmt.NewWriter(&s.buf)
	if bytes.HasPrefix([]byte(magic), data) && len(data) < len(magic) { // new, or cut in its first line
		if err := s.write([]byte(magic)); err != nil {
			return nil, err
		}
		return s, nil
	}
	if !bytes.HasPrefix(data, []byte(magic)) {
		return nil, errors.New("it is not a store of results: want a new file, or one that begins with its first line, " + strconv.Quote(magic[:len(magic)-1]))
	}
	whole, cut, lost := len(magic), false, false
	eachPiece(data, func(start, end int, ok bool) {
		if !ok {
			cut = true
		} else if cut {
			lost = true
		} else {
			whole = end
		}
	})
	if lost {
		line := 1 + bytes.Count(data[:whole], []byte("\n"))
		return nil, fmt.Errorf("line %d: a record differs from its mark, and others follow it: want a file that nothing else has changed", line)
	}
	s.size = int64(whole)
	if s.cut = int64(len(data) - whole); s.cut > 0 {
		if err := f.Truncate(s.size); err != nil {
			return nil, err
		}
	}
	// Prove that the file can be written and is on the disk before anything is measured.
	if err := f.Sync(); err != nil {
		return nil, err
	}
	return s, s.load(data[:whole])
}

// load takes over what the file has: keys, units, and the configuration in force at its end.
func (s *Store) load(data []byte) error {
	r := benchfmt.NewReader(bytes.NewReader(data), s.path)
	for r.Scan() {
		switch rec := r.Result().(type) {
		case *benchfmt.Result:
			s.keys[(*result)(rec).key()] = true
			if err := s.w.Write(rec); err != nil {
				return err
			}
			s.buf.Reset()
		case *benchfmt.UnitMetadata:
			s.units[rec.OrigUnit] = true
		case *benchfmt.SyntaxError:
			return fmt.Errorf("line %d: %s", rec.Line, rec.Msg)
		}
	}
	return r.Err()
}

// Path returns the path that the store was opened by.
func (s *Store) Path() string { return s.path }

// Len returns the number of records.
func (s *Store) Len() int { return len(s.keys) }

// Cut returns the bytes of an unfinished record that Open cut off.
func (s *Store) Cut() int64 { return s.cut }

// Has reports whether the store has a record of that key (Record.Key).
func (s *Store) Has(key string) bool { return s.keys[key] }

// Append writes r as one whole record and returns when it is on the disk. A record that cannot
// be read back, holds a figure that is not finite or in an unknown unit, or is there already is an
// error that names its cell, and the store stays as it was. After an error of the file itself it refuses further records.
func (s *Store) Append(r Record) error {
	if s.err != nil {
		return s.err
	}
	if err := r.check(); err != nil {
		return fmt.Errorf("results file %s: %w", s.path, err)
	}
	key := r.Key()
	if s.keys[key] {
		return fmt.Errorf("results file %s: cell %s: it is there already", s.path, key)
	}
	written := r.seedAsValue()
	text, err := s.text(&written)
	if err != nil {
		return err
	}
	if err := s.write(text); err != nil {
		s.err = fmt.Errorf("results file %s: %w", s.path, err)
		return s.err
	}
	s.keys[key] = true
	for _, v := range written.Values {
		s.units[v.Unit] = true
	}
	return nil
}

func (s *Store) text(r *Record) ([]byte, error) {
	long := 0
	for _, c := range r.Config {
		long = max(long, len(c.Key)+len(c.Value))
	}
	line := len(r.Name)
	for _, v := range r.Values {
		line += len(v.Unit) + 32
	}
	if max(long, line) > maxRecord {
		return nil, fmt.Errorf("results file %s: cell %.100s: %d bytes in a line: want at most %d", s.path, r.Name, max(long, line), maxRecord)
	}
	s.buf.Reset()
	for _, v := range r.Values {
		if s.units[v.Unit] {
			continue
		}
		u, _ := LookupUnit(v.Unit)
		for _, m := range u.metadata() {
			if err := s.w.Write(m); err != nil {
				return nil, err
			}
		}
	}
	if err := s.w.Write(r.result().bench()); err != nil {
		return nil, err
	}
	return appendEnd(s.buf.Bytes()), nil
}

// write adds text at the end, in one write, and syncs it. On error it cuts the file back.
func (s *Store) write(text []byte) error {
	_, err := s.f.WriteAt(text, s.size)
	if err == nil {
		err = s.f.Sync()
	}
	if err != nil {
		// Should this fail too, the next Open cuts off what has no mark; if all of text is there, it is
		// a whole record that the next Open counts, so that it is not measured twice.
		return errors.Join(err, s.f.Truncate(s.size))
	}
	s.size += int64(len(text))
	return nil
}

// Close gives the file free for others.
func (s *Store) Close() error {
	if err := s.f.Close(); err != nil {
		return fmt.Errorf("results file %s: %w", s.path, err)
	}
	return nil
}

// syncDir makes the directory entry of a new file last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	d.Close()
	if err != nil && dirSyncUnsupported(err) {
		return nil
	}
	return err
}
