package attn

import "attnbench/internal/options"

// Option describes one option of a mechanism.
type Option = options.Option

// OptionError reports a bad value of an option and what it allows.
func OptionError(option string, value any, want string) error {
	return options.Error(option, value, want)
}
