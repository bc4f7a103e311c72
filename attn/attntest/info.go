package attntest

import (
	"slices"
	"strings"

	"attnbench/attn"
)

// checkInfo checks that the description is complete and that the registry spells it back.
func checkInfo(k *kit) {
	i := &k.info
	spelling := i.Name
	if wrapper, inner, ok := strings.Cut(spelling, "("); ok && slices.Contains(attn.Wrappers(), wrapper) {
		spelling = strings.TrimSuffix(inner, ")")
	}
	name, _, _ := strings.Cut(spelling, ":")
	if name == "" || strings.ContainsAny(spelling, "|/()\" \t\n") {
		k.failf("name %q: want a spelling that the registry reads", i.Name)
	}
	if i.Masks == 0 || i.Masks&^(attn.Causal|attn.Bidirectional|attn.Cross) != 0 {
		k.failf("masks are %v: want one or more of causal, bidirectional, cross", i.Masks)
	}
	if i.Couples > attn.CouplesHeads || i.Decode > attn.DecodeNever {
		k.failf("coupling %d, decode equality %d: want declared ones", i.Couples, i.Decode)
	}
	if !(i.Tolerance >= 0 && i.Tolerance <= 0.05) {
		k.failf("tolerance %g: want at most 0.05 of the largest output", i.Tolerance)
	}
	if i.Cost == nil {
		k.failf("Info.Cost is nil: want the closed-form costs")
	}
	if len(i.Inputs) == 0 {
		k.failf("no inputs: want those that the layer shall project, QKV() by default")
	}
	seen := map[string]bool{}
	for n, in := range i.Inputs {
		if in.Name == "" || seen[in.Name] {
			k.failf("input %d has the name %q: want one of its own", n, in.Name)
		}
		seen[in.Name] = true
		if in.Tied != "" && in.From != attn.FirstLayer && k.tied(in) < 0 {
			k.failf("input %s is tied to %q: want another input", in.Name, in.Tied)
		}
		if in.Conv < 0 || in.Rank < 0 {
			k.failf("input %s: convolution of %d, rank %d: want at least 0", in.Name, in.Conv, in.Rank)
		}
	}
	for _, list := range [][]attn.Tensor{i.Learned, i.Buffers} {
		names := map[string]bool{}
		for n, t := range list {
			if t.Name == "" || names[t.Name] || t.Shape == nil {
				k.failf("tensor %d, %q: want a name of its own and a shape", n, t.Name)
			}
			names[t.Name] = true
		}
	}
	for n, l := range i.Limits {
		if l.Spec == nil || l.Equals == "" {
			k.failf("limit %d: want Spec and Equals", n)
		}
	}
	if _, ok := k.m.(attn.Updater); ok && len(i.Buffers) == 0 {
		k.failf("an Updater without buffers: want those that it changes in Info.Buffers")
	}
	if i.Budget != "" && !i.Approximates {
		k.failf("budget %q of a mechanism that approximates nothing: want Approximates, or none", i.Budget)
	}
	if attn.Options(name) == nil && !registered(name) {
		return // not registered, as in a test of its own
	}
	if i.Budget != "" && !slices.ContainsFunc(attn.Options(name), func(o attn.Option) bool { return o.Name == i.Budget && o.Type == "int" }) {
		k.failf("budget %q: want one of its options, an integer", i.Budget)
	}
	m, err := attn.New(i.Name)
	if err != nil {
		k.failf("the registry cannot read the name back: %v", err)
	} else if got := m.Info().Name; got != i.Name {
		k.failf("the registry reads the name %q back as %q", i.Name, got)
	}
}

func registered(name string) bool {
	for _, n := range attn.Names() {
		if n == name {
			return true
		}
	}
	return false
}
