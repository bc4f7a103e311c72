package harness

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"attnbench/attn"
)

// Kind says what is measured.
type Kind uint8

const (
	Prefill  Kind = iota // one Forward over all tokens, at inference
	Train                // Forward and Backward over all tokens
	Decode               // Extend by one token at a context of N tokens
	Accuracy             // a model trained and scored on a task
)

func (k Kind) String() string {
	return [...]string{"Prefill", "Train", "Decode", "Accuracy"}[k]
}

// Kinds are the kinds in the order of a sweep.
var Kinds = []Kind{Prefill, Train, Decode, Accuracy}

// Case is one attention call: a mechanism and a shape.
type Case struct {
	Mech    string // spelling, as attn.New parses it
	N       int    // tokens of a sequence; when decoding, of the context
	Heads   int    // query heads
	KVHeads int    // key/value heads; 0 means Heads
	Dim     int    // width of a head
	Causal  bool
	Batch   int // sequences; 0 means 1
}

func (c Case) withDefaults() Case {
	c.KVHeads = cmp.Or(c.KVHeads, c.Heads)
	c.Batch = cmp.Or(c.Batch, 1)
	return c
}

// Name returns the benchmark's name of the case, without the word Benchmark. All parts are always
// there, in this order. The last one never ends in a dash and digits, which would be read as GOMAXPROCS.
func (c Case) Name(k Kind) string {
	name := k.String()
	for _, p := range c.parts() {
		name += "/" + p
	}
	return name
}

func (c Case) parts() []string {
	c = c.withDefaults()
	return []string{
		"mech=" + c.Mech,
		fmt.Sprint("n=", c.N),
		fmt.Sprint("heads=", c.Heads),
		fmt.Sprint("dim=", c.Dim),
		fmt.Sprint("causal=", c.Causal),
		fmt.Sprint("kv=", c.KVHeads),
		fmt.Sprint("batch=", c.Batch),
	}
}

// Shape returns the shape of the whole call: N queries, N keys.
func (c Case) Shape() attn.Shape {
	c = c.withDefaults()
	s := attn.Shape{
		Batch: c.Batch, QueryLen: c.N, KeyLen: c.N,
		Heads: c.Heads, KVHeads: c.KVHeads, KeyDim: c.Dim, ValueDim: c.Dim,
		Mask: attn.Bidirectional, Layers: 1, MaxLen: c.N,
	}
	if c.Causal {
		s.Mask = attn.Causal
	}
	return s
}

// check reports a size that nothing can be computed at. Costs are counted in 63 bits, and no mechanism takes more than 64
// operations a pair of tokens and channel, or a token and pair of channels.
func (c Case) check() error {
	s := c.Shape()
	if c.N < 1 {
		return fmt.Errorf("length %d: want at least 1", c.N)
	}
	if s.Batch < 1 {
		return fmt.Errorf("batch %d: want at least 1", s.Batch)
	}
	if err := s.Check(); err != nil {
		return err
	}
	rows, dim := float64(s.Batch)*float64(s.Heads)*float64(s.QueryLen), float64(s.KeyDim)
	if x := 64 * rows * dim * (float64(s.KeyLen) + dim); x >= 1<<62 {
		return fmt.Errorf("it may take %.3g operations: want a shape of fewer than 2^62", x)
	}
	return nil
}

var newMechanism = attn.New // tests put faulty mechanisms here, which the registry must not show

// open makes the mechanism of the case and checks that it can compute its shape.
func (c Case) open() (attn.Mechanism, attn.Shape, error) {
	s := c.Shape()
	m, err := newMechanism(c.Mech)
	if err != nil {
		return nil, s, err
	}
	info := m.Info()
	if err := c.check(); err != nil {
		return nil, s, err
	}
	if info.Masks&s.Mask == 0 {
		return nil, s, unsupported("%s: mask is %v: want %v", info.Name, s.Mask, info.Masks)
	}
	if info.CheckShape != nil {
		if err := info.CheckShape(s); err != nil {
			return nil, s, unsupported("%s: %w", info.Name, err)
		}
	}
	return m, s, nil
}

// Unsupported is the error of a cell that its mechanism has no way to compute. A sweep notes it
// and goes on; it is no failure.
type Unsupported struct{ Err error }

func (e *Unsupported) Error() string { return e.Err.Error() }
func (e *Unsupported) Unwrap() error { return e.Err }

func unsupported(format string, args ...any) error {
	return &Unsupported{fmt.Errorf(format, args...)}
}

// cellName is what a benchmark's name says.
type cellName struct {
	kind, mech string
	n          int
}

func parseName(name string) cellName {
	kind, rest, _ := strings.Cut(name, "/")
	c := cellName{kind: kind}
	for part := range strings.SplitSeq(rest, "/") {
		switch key, value, _ := strings.Cut(part, "="); key {
		case "mech":
			c.mech = value
		case "n":
			c.n, _ = strconv.Atoi(value)
		}
	}
	return c
}
