// Package attn is the contract between attention mechanisms and everything that measures,
// trains or serves them: one small interface, the call that it computes, and a registry.
//
// A mechanism is a function from its declared inputs (queries, keys, values and whatever else it
// needs) to outputs. It says about itself, in Info, what it wants and what it costs; what more it
// can do is found by type assertion, as with io.Reader and io.WriterTo:
//
//	Mechanism       computes outputs
//	Differentiable  can be trained through
//	Incremental     decodes from a State, token by token or in chunks
//	Defined         has a float64 definition that its kernels are held against
//	Updater         has buffers that change once an optimiser step
//
// Mechanisms register themselves by name, with typed options, and are made from a spelling such
// as "sliding:window=512,sinks=4"; package attn/all brings in those of this module.
package attn

// Mechanism is one attention variant. Values are immutable and safe for concurrent use.
type Mechanism interface {
	// Info describes the mechanism. The slices and functions in it are not to be changed.
	Info() Info
	// Forward computes c.Out. All scratch comes from ws. An error means that nothing was written.
	Forward(ws *Workspace, c *Call) error
}

// Differentiable mechanisms can be trained through.
type Differentiable interface {
	Mechanism
	// Backward adds to the gradients in g, from g.Out and the same call that Forward computed
	// with c.Saved set: c.Out and c.Saved hold what Forward left there.
	Backward(ws *Workspace, c *Call, g *Grads) error
}

// Incremental mechanisms decode from a State: a prompt, a chunk or one token at a time.
type Incremental interface {
	Mechanism
	// NewState returns an empty state for shape.Batch sequences. QueryLen and KeyLen are ignored.
	NewState(shape Shape) (State, error)
	// Extend appends the keys of c to the state s and computes c.Out for its queries, which see the state's
	// earlier tokens and then the call's own, aligned at the end. Segments say how many tokens
	// each row brings; a row without a segment brings none. Positions come from the state, not from the segments. With
	// Mask Cross, queries see all keys that the state holds after the append.
	Extend(ws *Workspace, s State, c *Call) error
}

// Defined mechanisms have a definition: the paper's formula in float64, written to be read.
type Defined interface {
	Mechanism
	Define(c *Call64) error
}

// Updater mechanisms change their buffers once an optimiser step, never in Forward.
type Updater interface {
	Mechanism
	// Update changes c.Buffers, given the last training call of the step.
	Update(ws *Workspace, c *Call) error
}

// State is what a mechanism keeps of the tokens it has seen, for a batch of sequences of
// independent lengths.
type State interface {
	// Len returns the number of tokens that row has seen.
	Len(row int) int
	// Bytes returns the bytes that the state retains now, of all rows.
	Bytes() int64
	// ReadBytes returns the bytes of state that decoding one more token of every row will read.
	ReadBytes() int64
	// Reset empties a row.
	Reset(row int)
	// Reorder makes row i a copy of what row from[i] was, as beam search needs. len(from) is
	// the batch size.
	Reorder(from []int) error
	// MarshalBinary and UnmarshalBinary write and read the whole state; reading wants a state of
	// the same mechanism and shape, and leaves it as it was on error.
	MarshalBinary() ([]byte, error)
	UnmarshalBinary(data []byte) error
}
