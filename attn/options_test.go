package attn

import "testing"

func TestWithOption(t *testing.T) {
	for _, c := range []struct{ spec, option, value, want string }{
		{"probe", "window", "4", "probe:window=4"},
		{"probe:window=8,map=relu", "window", "4", "probe:window=4,map=relu"},
		{"probe:map=relu", "window", "512", "probe:map=relu"}, // the default
	} {
		got, err := WithOption(c.spec, c.option, c.value)
		if err != nil || got != c.want {
			t.Errorf("%s with %s=%s: %q, %v: want %q", c.spec, c.option, c.value, got, err, c.want)
		}
	}
	for _, c := range [][3]string{{"probe", "window", "0"}, {"probe", "width", "3"}, {"none", "window", "3"}, {"probe:window", "ratio", "1"}} {
		if got, err := WithOption(c[0], c[1], c[2]); err == nil {
			t.Errorf("%s with %s=%s: %q: want an error", c[0], c[1], c[2], got)
		}
	}
}
