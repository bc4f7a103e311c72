package attn

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
)

// Option describes one option of a mechanism.
type Option struct {
	Name, Type, Default string
}

// parseOptions sets the tagged fields of the struct that o points to from "a=1,b=2".
func parseOptions(text string, o any) error {
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
		f, ok := optionField(v, name)
		if !ok {
			var names []string
			for _, d := range describeOptions(v.Interface()) {
				names = append(names, d.Name)
			}
			if names == nil {
				return fmt.Errorf("unknown option %q: it has none", name)
			}
			return fmt.Errorf("unknown option %q: want one of %s", name, strings.Join(names, ", "))
		}
		if err := setOption(f, name, value); err != nil {
			return err
		}
	}
	return nil
}

func optionField(v reflect.Value, name string) (reflect.Value, bool) {
	if v.Kind() != reflect.Struct {
		return reflect.Value{}, false
	}
	for i := range v.NumField() {
		if tag, ok := v.Type().Field(i).Tag.Lookup("opt"); ok && tag == name {
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}

func setOption(f reflect.Value, name, text string) error {
	switch f.Kind() {
	case reflect.Bool:
		if text != "true" && text != "false" {
			return OptionError(name, text, "true or false")
		}
		f.SetBool(text == "true")
	case reflect.Int:
		n, err := strconv.ParseInt(text, 10, strconv.IntSize)
		if err != nil {
			return OptionError(name, text, "an integer")
		}
		f.SetInt(n)
	case reflect.Uint64:
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return OptionError(name, text, "an integer of at least 0")
		}
		f.SetUint(n)
	case reflect.Float64:
		x, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(x) || math.IsInf(x, 0) {
			return OptionError(name, text, "a finite number")
		}
		f.SetFloat(x)
	case reflect.String:
		if text == "" || strings.ContainsAny(text, ":,|=/()\" \t\n") {
			return OptionError(name, strconv.Quote(text), "letters, digits, - _ .")
		}
		f.SetString(text)
	default:
		panic("attn: option " + name + " has type " + f.Type().String() + ": want bool, int, uint64, float64 or string")
	}
	return nil
}

func optionText(f reflect.Value) string {
	if f.Kind() == reflect.Float64 {
		return strconv.FormatFloat(f.Float(), 'g', -1, 64)
	}
	return fmt.Sprint(f.Interface())
}

// describeOptions lists the tagged fields of the struct o with their values as defaults.
func describeOptions(o any) []Option {
	v := reflect.ValueOf(o)
	if v.Kind() != reflect.Struct {
		return nil
	}
	var list []Option
	for i := range v.NumField() {
		if tag, ok := v.Type().Field(i).Tag.Lookup("opt"); ok {
			list = append(list, Option{tag, v.Field(i).Type().String(), optionText(v.Field(i))})
		}
	}
	return list
}

// spellOptions writes the options of o that differ from defaults.
func spellOptions(o, defaults any) string {
	a, b := describeOptions(o), describeOptions(defaults)
	var parts []string
	for i := range a {
		if a[i].Default != b[i].Default {
			parts = append(parts, a[i].Name+"="+a[i].Default)
		}
	}
	return strings.Join(parts, ",")
}
