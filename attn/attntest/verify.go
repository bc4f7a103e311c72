package attntest

import (
	"context"
	"errors"

	"attnbench/attn"
)

// VerifyOptions say how long a verification is. Zeros are the defaults.
type VerifyOptions struct {
	Seeds  int // the whole kit is run with the seeds 1 to Seeds; 0 means 3
	Tokens int // of the long passes; 0 means 100,000
	Stream int // tokens that constant states take in; 0 means 2^20
}

// Result is what one check of a verification found.
type Result struct {
	Check string
	Seed  uint64
	Notes []string // what a long check looked at, or why it could not
	Err   error    // what is wrong, as Check reports it; nil for nothing
}

// longChecks take too long for a test.
var longChecks = []check{
	{"stability", checkStability},
	{"stream", checkStream},
}

// Verify runs the kit with several seeds, and then the checks that take too long for a test, and hands each result to report as soon as it
// is there:
//
//	stability    a pass over 100,000 tokens, with gates of any strength, is finite and ends as the definition does; decoding in mixed pieces too
//	stream       2^20 tokens go into a state of constant size one by one: finite, and no byte more is retained
//
// The error is that of ctx.
func Verify(ctx context.Context, m attn.Mechanism, define Define, o VerifyOptions, report func(Result)) error {
	if o.Seeds == 0 {
		o.Seeds = 3
	}
	if o.Tokens == 0 {
		o.Tokens = 100_000
	}
	if o.Stream == 0 {
		o.Stream = 1 << 20
	}
	run := func(c check, seed uint64) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		k := newKit(m, define, CheckOptions{Seed: seed})
		k.tokens, k.stream = o.Tokens, o.Stream
		errs := k.run(c)
		report(Result{Check: c.name, Seed: seed, Notes: k.notes, Err: errors.Join(errs...)})
		return nil
	}
	for seed := range uint64(o.Seeds) {
		for _, c := range checks {
			if err := run(c, seed+1); err != nil {
				return err
			}
		}
	}
	for _, c := range longChecks {
		if err := run(c, 1); err != nil {
			return err
		}
	}
	return nil
}
