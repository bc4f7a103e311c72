package attntest

import (
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"testing"

	"attnbench/attn"
)

// CheckOptions narrows what is checked. The zero value checks everything.
type CheckOptions struct {
	Short bool   // fewer shapes and directions
	Seed  uint64 // of all inputs; 0 means 1
	Only  string // the name of one check; empty for all
}

// Define is the definition of a mechanism: it computes c.Out (and c.Final) from the call.
type Define = func(c *attn.Call64) error

type check struct {
	name string
	run  func(k *kit)
}

var checks = []check{
	{"info", checkInfo},
	{"definition", checkDefinition},
	{"alignment", checkAlignment},
	{"gradient", checkGradient},
	{"decode", checkDecode},
	{"carry", checkCarry},
	{"causality", checkCausality},
	{"rows", checkRows},
	{"padding", checkPadding},
	{"empty", checkEmpty},
	{"limits", checkLimits},
	{"selection", checkSelection},
	{"hostile", checkHostile},
	{"determinism", checkDeterminism},
	{"allocation", checkAllocation},
	{"scratch", checkScratch},
	{"cost", checkCost},
	{"errors", checkErrors},
}

// Names returns the names of the checks, in the order in which they run.
func Names() []string {
	var s []string
	for _, c := range checks {
		s = append(s, c.name)
	}
	return s
}

// Run checks m against its definition, with a subtest for each check. It costs about 3 s, 0.5 s with -short.
func Run(t *testing.T, m attn.Mechanism, define Define) {
	t.Helper()
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			for _, err := range newKit(m, define, CheckOptions{Short: testing.Short()}).run(c) {
				t.Error(err)
			}
		})
	}
}

// Check checks m against its definition and returns what it found, joined. Each error starts
// with the name of its check and ends with the call's shape and seed and how to repeat it.
func Check(m attn.Mechanism, define Define) error {
	return CheckWith(m, define, CheckOptions{})
}

// CheckWith is Check with options.
func CheckWith(m attn.Mechanism, define Define, o CheckOptions) error {
	var errs []error
	known := false
	for _, c := range checks {
		if o.Only == "" || o.Only == c.name {
			known = true
			errs = append(errs, newKit(m, define, o).run(c)...)
		}
	}
	if !known {
		return fmt.Errorf("unknown check %q: want one of %s", o.Only, strings.Join(Names(), ", "))
	}
	return errors.Join(errs...)
}

// maxErrors is how many failures of one check are told; the first ones say enough.
const maxErrors = 3

// kit is one check of one mechanism on its way.
type kit struct {
	CheckOptions
	m      attn.Mechanism
	info   attn.Info
	define Define
	ws     *attn.Workspace

	check string
	plan  *plan // the call at hand, for messages
	drawn uint64
	errs  []error
	more  int

	tokens, stream int      // of the long checks
	notes          []string // of what they looked at
}

func newKit(m attn.Mechanism, define Define, o CheckOptions) *kit {
	if o.Seed == 0 {
		o.Seed = 1
	}
	return &kit{CheckOptions: o, m: m, define: define, ws: attn.NewWorkspace()}
}

func (k *kit) run(c check) []error {
	k.check = c.name
	k.try(func() {
		if k.define == nil {
			k.failf("no definition given: want the float64 formula, or nothing can be held against it")
			return
		}
		k.info = k.m.Info()
		c.run(k)
	})
	if k.more > 0 {
		k.errs = append(k.errs, fmt.Errorf("%s: and %d failures more", k.check, k.more))
	}
	return k.errs
}

// failf reports a failure of the check at hand.
func (k *kit) failf(format string, args ...any) {
	if len(k.errs) == maxErrors {
		k.more++
		return
	}
	where := ""
	if k.plan != nil {
		where = "\n\twith " + k.plan.String()
	}
	k.errs = append(k.errs, fmt.Errorf("%s: %s%s\n\tmechanism %s, seed %d: repeat with attntest.CheckWith(m, define, attntest.CheckOptions{Short: %v, Seed: %d, Only: %q})",
		k.check, fmt.Sprintf(format, args...), where, k.info.Name, k.Seed, k.Short, k.Seed, k.check))
}

// full reports whether enough has been found to stop.
func (k *kit) full() bool { return len(k.errs) == maxErrors }

// try runs f and turns a panic into a failure.
func (k *kit) try(f func()) {
	defer func() {
		if r := recover(); r != nil {
			k.failf("panic: %v\n%s", r, stack())
		}
	}()
	f()
}

// stack returns the frames above the panic, without the kit's own handling of it.
func stack() string {
	lines := strings.Split(string(debug.Stack()), "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, "panic(") {
			lines = lines[i+2:]
			break
		}
	}
	return strings.Join(lines[:min(6, len(lines))], "\n")
}
