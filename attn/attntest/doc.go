// Package attntest is the conformance kit of attention mechanisms: one line in a mechanism's own
// test holds it against its float64 definition and against what its Info promises.
//
//	func TestMine(t *testing.T) { attntest.Run(t, m, m.Define) }
//
// The checks, each a subtest of its own:
//
//	info         the description is complete, and the registry spells it back
//	definition   Forward gives what the definition gives
//	alignment    fewer queries than keys are the last ones (causal means bottom-right)
//	gradient     Backward adds the gradient of the definition, for every input
//	decode       Extend gives what Forward gives, however it is cut; states reset, reorder, serialise
//	carry        pieces chained by Initial and Final equal one pass
//	causality    a later token changes no earlier output, to the bit
//	rows         batch rows are independent, and heads but for the declared coupling
//	padding      what lies outside the segments is neither read nor written
//	empty        a query without keys gives zeros, and sizes of 0 work
//	limits       the declared limits hold
//	selection    a hard selection breaks ties as the definition does, and never takes the future
//	hostile      huge logits, constant rows, zeros, denormals; NaN and Inf stay where they are seen
//	determinism  the same bits at GOMAXPROCS 1, 2 and 7, on a second run, and from two goroutines
//	allocation   nothing from Go's heap once warm, no memory behind the workspace's back
//	scratch      workspace and saved bytes are those of Info.Cost
//	cost         the other figures of Info.Cost are sane, and the state's are exact
//	errors       what cannot be computed is an error, changes nothing, and never panics
//
// Verify adds what takes too long for a test; the command's verify runs it.
//
// Checks for what a mechanism does not do (no Backward, no State, no selection) pass at once.
// The kit sets GOMAXPROCS and counts allocations of the process, so tests that run it must not
// be parallel to others.
package attntest
