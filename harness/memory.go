package harness

import (
	"fmt"
	"runtime/debug"

	"attnbench/attn"
	"golang.org/x/perf/benchunit"
)

// TooLarge is the error of a cell that would not fit in memory. A sweep notes it and goes on.
type TooLarge struct {
	Cell         string
	Needs, Limit int64 // bytes
}

func (e *TooLarge) Error() string {
	scale := func(b int64) string { return benchunit.Scale(float64(b), benchunit.Binary) + "B" }
	return fmt.Sprintf("%s: it needs %s of memory: want at most %s", e.Cell, scale(e.Needs), scale(e.Limit))
}

// Needs returns the bytes that a measurement of the case takes, from the closed forms that its
// mechanism declares: inputs, outputs, gradients, scratch, saved tensors and state.
func (c Case) Needs(k Kind) (int64, error) {
	m, s, err := c.open()
	if err != nil {
		return 0, err
	}
	info := m.Info()
	n := inputBytes(&info, s)
	switch k {
	case Prefill:
		n += scratch(cost(&info, s, attn.PassForward))
	case Train:
		f, b := cost(&info, s, attn.PassForward), cost(&info, s, attn.PassBackward)
		n += n + max(scratch(f), scratch(b)) + f.Saved
	case Decode:
		fill := s
		fill.QueryLen = min(s.KeyLen, chunk)
		c := cost(&info, fill, attn.PassDecode)
		n += scratch(c) + 3*c.State // the state, its copy, and a copy that is being read back
	}
	return n, nil
}

func inputBytes(info *attn.Info, s attn.Shape) int64 {
	n := int64(s.Batch) * int64(s.QueryLen) * int64(s.Heads) * int64(s.ValueDim)
	for i := range info.Inputs {
		in := &info.Inputs[i]
		if in.Tied != "" {
			continue
		}
		h, w := in.Size(s)
		n += int64(s.Batch) * int64(s.KeyLen) * int64(h) * int64(w)
	}
	for _, ts := range [][]attn.Tensor{info.Learned, info.Buffers} {
		for i := range ts {
			n += int64(ts[i].Len(s))
		}
	}
	return 4 * n
}

func cost(info *attn.Info, s attn.Shape, p attn.Pass) attn.Cost {
	if info.Cost == nil {
		return attn.Cost{}
	}
	return info.Cost(s, p)
}

func scratch(c attn.Cost) int64 { return c.Shared + int64(workers())*c.PerWorker }

// checkMemory refuses what would take more than limit bytes, or, when that is 0, more than the
// system has available. What earlier cells left is given back first.
func checkMemory(cell string, needs, limit int64) error {
	if limit == 0 {
		if a, ok := available(); !ok || needs < a/2 {
			return nil
		}
		debug.FreeOSMemory()
		limit, _ = available()
	}
	if needs > limit {
		return &TooLarge{cell, needs, limit}
	}
	return nil
}
