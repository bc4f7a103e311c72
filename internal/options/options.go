// Package options parses and writes the options of mechanisms and tasks: one spelling,
// name=value,name=value, into one typed struct.
//
// Fields tagged `opt:"name"` are the options: bool, int, uint64, float64, string, and Path. Those of an embedded struct
// stand where it does.
package options

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
)

// Option describes one option.
type Option struct {
	Name, Type, Default string
}

// Path is a string option that may hold any characters: those with a meaning in spellings or in
// benchmark names are written %XX. Reading also takes a bare slash.
type Path string

// plain reports whether a byte stands for itself everywhere: in spellings, benchmark names and
// filters, file names and shells.
func plain(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '-' || c == '_'
}

func allPlain(s string) bool {
	for i := range len(s) {
		if !plain(s[i]) {
			return false
		}
	}
	return s != ""
}

// CheckName keeps names usable in spellings, benchmark names and result keys.
func CheckName(s string) error {
	if !allPlain(s) {
		return fmt.Errorf("name %q: want letters, digits, ., - and _", s)
	}
	return nil
}

// Error reports a bad value of an option and what it allows.
func Error(option string, value any, want string) error {
	return fmt.Errorf("option %s=%v: want %s", option, value, want)
}

// Parse sets the tagged fields of the struct that o points to from "a=1,b=2".
func Parse(text string, o any) error {
	v := reflect.ValueOf(o).Elem()
	if text == "" {
		return nil
	}
	seen := map[string]bool{}
	for part := range strings.SplitSeq(text, ",") {
		name, value, ok := strings.Cut(part, "=")
		if !ok {
			return fmt.Errorf("option %q: want option=value", part)
		}
		if seen[name] {
			return fmt.Errorf("option %s: given twice", name)
		}
		seen[name] = true
		f, ok := field(v, name)
		if !ok {
			var names []string
			for _, d := range Describe(v.Interface()) {
				names = append(names, d.Name)
			}
			if names == nil {
				return fmt.Errorf("unknown option %q: it has none", name)
			}
			return fmt.Errorf("unknown option %q: want one of %s", name, strings.Join(names, ", "))
		}
		if err := set(f, name, value); err != nil {
			return err
		}
	}
	return nil
}

// Describe lists the tagged fields of the struct o with their values as defaults.
func Describe(o any) []Option {
	v := reflect.ValueOf(o)
	if v.Kind() != reflect.Struct {
		return nil
	}
	var list []Option
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if tag, ok := f.Tag.Lookup("opt"); ok {
			list = append(list, Option{tag, typeName(v.Field(i)), text(v.Field(i))})
		} else if f.Anonymous && f.IsExported() {
			list = append(list, Describe(v.Field(i).Interface())...)
		}
	}
	return list
}

// Spell writes the options of o that differ from defaults, in the order of the struct.
func Spell(o, defaults any) string {
	a, b := Describe(o), Describe(defaults)
	var parts []string
	for i := range a {
		if a[i].Default != b[i].Default {
			parts = append(parts, a[i].Name+"="+a[i].Default)
		}
	}
	return strings.Join(parts, ",")
}

func field(v reflect.Value, name string) (reflect.Value, bool) {
	if v.Kind() != reflect.Struct {
		return reflect.Value{}, false
	}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if tag, ok := f.Tag.Lookup("opt"); ok && tag == name {
			return v.Field(i), true
		}
		if f.Anonymous && f.IsExported() {
			if x, ok := field(v.Field(i), name); ok {
				return x, true
			}
		}
	}
	return reflect.Value{}, false
}

func set(f reflect.Value, name, text string) error {
	switch f.Kind() {
	case reflect.Bool:
		if text != "true" && text != "false" {
			return Error(name, text, "true or false")
		}
		f.SetBool(text == "true")
	case reflect.Int:
		n, err := strconv.ParseInt(text, 10, strconv.IntSize)
		if err != nil {
			return Error(name, text, "an integer")
		}
		f.SetInt(n)
	case reflect.Uint64:
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return Error(name, text, "an integer of at least 0")
		}
		f.SetUint(n)
	case reflect.Float64:
		x, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(x) || math.IsInf(x, 0) {
			return Error(name, text, "a finite number")
		}
		f.SetFloat(x)
	case reflect.String:
		if isPath(f) {
			s, err := unescape(text)
			if err != nil {
				return Error(name, strconv.Quote(text), "a path, with %XX for a special character")
			}
			f.SetString(s)
			return nil
		}
		if !allPlain(text) {
			return Error(name, strconv.Quote(text), "letters, digits, ., - and _")
		}
		f.SetString(text)
	default:
		panic("options: option " + name + " has type " + f.Type().String() + ": want bool, int, uint64, float64, string or Path")
	}
	return nil
}

func isPath(f reflect.Value) bool { return f.Type() == reflect.TypeFor[Path]() }

func typeName(f reflect.Value) string {
	if isPath(f) {
		return "path"
	}
	return f.Type().String()
}

func text(f reflect.Value) string {
	switch {
	case f.Kind() == reflect.Float64:
		return strconv.FormatFloat(f.Float(), 'g', -1, 64)
	case isPath(f):
		return escape(f.String())
	}
	return fmt.Sprint(f.Interface())
}

// escape writes everything but letters, digits, ., - and _ as %XX, byte by byte.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if plain(s[i]) {
			b.WriteByte(s[i])
		} else {
			fmt.Fprintf(&b, "%%%02X", s[i])
		}
	}
	return b.String()
}

func unescape(s string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", fmt.Errorf("%q: want two hexadecimal digits", s[i:])
		}
		n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil {
			return "", err
		}
		b.WriteByte(byte(n))
		i += 2
	}
	return b.String(), nil
}
