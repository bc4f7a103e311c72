package attn

import (
	"fmt"
	"slices"
	"strings"

	"attnbench/internal/options"
)

// Option describes one option of a mechanism.
type Option = options.Option

// OptionError reports a bad value of an option and what it allows.
func OptionError(option string, value any, want string) error {
	return options.Error(option, value, want)
}

// WithOption returns the canonical spelling of the mechanism that spec spells with one of its options set to value.
func WithOption(spec, option string, value any) (string, error) {
	name, opts, _ := strings.Cut(spec, ":")
	var parts []string
	if opts != "" {
		parts = slices.DeleteFunc(strings.Split(opts, ","), func(p string) bool { return strings.HasPrefix(p, option+"=") })
	}
	m, err := New(name + ":" + strings.Join(append(parts, fmt.Sprintf("%s=%v", option, value)), ","))
	if err != nil {
		return "", err
	}
	return m.Info().Name, nil
}
