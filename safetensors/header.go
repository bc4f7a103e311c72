package safetensors

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"
)

// metadata is the one name that no tensor has.
const metadata = "__metadata__"

// parse reads the header's JSON. Names that are given twice, fields that are missing or unknown and whatever
// follows the object, but for blanks, are errors.
func (f *File) parse(text []byte) error {
	if !utf8.Valid(text) {
		return errors.New("not UTF-8: want JSON")
	}
	if len(text) == 0 || text[0] != '{' {
		return errors.New("want JSON that begins with {")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	err := object(d, func(name string) error {
		if name == metadata {
			f.Meta = map[string]string{}
			if err := f.parseMeta(d); err != nil {
				return fmt.Errorf("%s: %w", metadata, err)
			}
			return nil
		}
		t := Info{Name: name}
		if err := t.parse(d); err != nil {
			return fmt.Errorf("tensor %s: %w", name, err)
		}
		f.Tensors = append(f.Tensors, t)
		return nil
	})
	if err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("more than one JSON value: want one")
	}
	return nil
}

func (f *File) parseMeta(d *json.Decoder) error {
	return object(d, func(key string) error {
		s, err := text(d)
		f.Meta[key] = s
		return err
	})
}

func (t *Info) parse(d *json.Decoder) error {
	fields := 0
	err := object(d, func(field string) error {
		fields++
		switch field {
		case "dtype":
			s, err := text(d)
			t.DType = DType(s)
			return err
		case "shape":
			t.Shape = []int{}
			return array(d, field, func(n int64) error {
				if int64(int(n)) != n {
					return fmt.Errorf("shape: dimension %d: want one that an int holds", n)
				}
				t.Shape = append(t.Shape, int(n))
				return nil
			})
		case "data_offsets":
			var at []int64
			err := array(d, field, func(n int64) error { at = append(at, n); return nil })
			if err != nil {
				return err
			}
			if len(at) != 2 {
				return fmt.Errorf("data_offsets of %d numbers: want 2", len(at))
			}
			t.Begin, t.End = at[0], at[1]
			return nil
		}
		return fmt.Errorf("field %q: want dtype, shape and data_offsets", field)
	})
	if err == nil && fields != 3 {
		err = errors.New("a field is missing: want dtype, shape and data_offsets")
	}
	return err
}

// object reads an object and calls value at the value of each key, of which none is given twice.
func object(d *json.Decoder, value func(key string) error) error {
	if err := delim(d, '{', "an object"); err != nil {
		return err
	}
	seen := map[string]bool{}
	for d.More() {
		key, err := text(d)
		if err != nil {
			return err
		}
		if seen[key] {
			return fmt.Errorf("%q: given twice: want each name once", key)
		}
		seen[key] = true
		if err := value(key); err != nil {
			return err
		}
	}
	return delim(d, '}', "the object's end")
}

// array reads an array of whole numbers from 0 on.
func array(d *json.Decoder, name string, value func(n int64) error) error {
	if err := delim(d, '[', name+" as an array"); err != nil {
		return err
	}
	for d.More() {
		tok, err := token(d)
		if err != nil {
			return err
		}
		num, ok := tok.(json.Number)
		if !ok {
			return fmt.Errorf("%s: %v: want whole numbers", name, tok)
		}
		n, err := strconv.ParseInt(string(num), 10, 64)
		if err != nil || n < 0 {
			return fmt.Errorf("%s: %s: want whole numbers from 0 to 2^63-1", name, num)
		}
		if err := value(n); err != nil {
			return err
		}
	}
	return delim(d, ']', "the array's end")
}

func text(d *json.Decoder) (string, error) {
	tok, err := token(d)
	if err != nil {
		return "", err
	}
	s, ok := tok.(string)
	if !ok {
		return "", fmt.Errorf("%v: want a string", tok)
	}
	return s, nil
}

func delim(d *json.Decoder, want json.Delim, what string) error {
	tok, err := token(d)
	if err != nil {
		return err
	}
	if tok != want {
		return fmt.Errorf("%v: want %s", tok, what)
	}
	return nil
}

func token(d *json.Decoder) (json.Token, error) {
	tok, err := d.Token()
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return tok, err
}
