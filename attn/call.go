package attn

import "fmt"

// CallOf holds the arguments of one attention call. Mechanisms take a Call, definitions a Call64.
//
// Inputs are read only and may share memory. Out is written entirely: rows that no segment
// covers, and queries that see no key, become zeros.
type CallOf[F Float] struct {
	Shape

	// Q [batch, query, heads, key dim], K [batch, key, kv heads, key dim] and V [batch, key, kv
	// heads, value dim] are the default inputs; one that a mechanism does not declare is empty,
	// one that it declares with other heads or width has those.
	Q, K, V ViewOf[F]
	// Extra are the further inputs, in the order in which Info.Inputs declares them.
	Extra []ViewOf[F]
	// Learned and Buffers are the mechanism's own tensors, in the order of Info.
	Learned, Buffers [][]F
	// Out is [batch, query, heads, value dim].
	Out ViewOf[F]

	// Segments are the sequences of the call, sorted by Row, Query0; nil means one a row, at full length.
	Segments []Segment
	// Pos0 is the absolute position of the first key of every row when Segments is nil.
	Pos0 int

	// Initial is the recurrent state before each segment, Info.Carry(Shape) numbers each, nil for zeros. Final,
	// unless nil, receives the state after each. Mechanisms without Carry want both nil.
	Initial, Final []F

	Train       bool   // a training step: dropout and the like are on
	Seed        uint64 // of everything random in the call
	EndOfPrompt bool   // the last token of this Extend ends the prompt
	Rope        *Rope  // rotation to apply inside, for mechanisms that say RotatesInside

	// Saved, unless nil, is where Forward keeps what Backward needs. Nil at inference, where the last bits of Out may differ
	// unless Train is set.
	Saved *Saved
	// Aux, unless nil, receives an auxiliary loss, added to what it holds.
	Aux *F
	// Frozen, unless nil, is the call from which a definition takes what has no gradient (a target that is held fixed), when
	// differences of this one stand for a gradient. Mechanisms do not look at it.
	Frozen *CallOf[F]
}

// Call is a float32 call, what a mechanism computes.
type Call = CallOf[float32]

// Call64 is a float64 call, what a definition computes.
type Call64 = CallOf[float64]

// Grads holds the gradients of one call, the same shapes as the call's own fields. Out (and
// Final, unless nil) are given; the others are added to, so that tied inputs may share memory.
// A declared input always has its gradient; Initial is nil when the call's is.
type Grads struct {
	Out            View
	Q, K, V        View
	Extra          []View
	Learned        [][]float32
	Initial, Final []float32
	Aux            float32 // gradient of the auxiliary loss
}

// NumSegments returns the number of sequences in the call.
func (c *CallOf[F]) NumSegments() int {
	if c.Segments == nil {
		return c.Batch
	}
	return len(c.Segments)
}

// NumQueries returns the number of queries in the call, padding apart.
func (c *CallOf[F]) NumQueries() int {
	if c.Segments == nil {
		return c.Batch * c.QueryLen
	}
	n := 0
	for _, g := range c.Segments {
		n += g.Queries
	}
	return n
}

// Segment returns sequence i of the call.
func (c *CallOf[F]) Segment(i int) Segment {
	if c.Segments == nil {
		return Segment{Row: i, Queries: c.QueryLen, Keys: c.KeyLen, Pos0: c.Pos0}
	}
	return c.Segments[i]
}

// Input returns the view of the i-th declared input of info.
func (c *CallOf[F]) Input(info *Info, i int) ViewOf[F] {
	if x := place(info, i, &c.Q, &c.K, &c.V); x != nil {
		return *x
	}
	return c.Extra[extraIndex(info, i)]
}

// SetInput sets the view of the i-th declared input of info; Extra grows as needed.
func (c *CallOf[F]) SetInput(info *Info, i int, v ViewOf[F]) {
	if x := place(info, i, &c.Q, &c.K, &c.V); x != nil {
		*x = v
		return
	}
	c.Extra = setExtra(c.Extra, extraIndex(info, i), v)
}

// Input returns the gradient of the i-th declared input of info.
func (g *Grads) Input(info *Info, i int) View {
	if x := place(info, i, &g.Q, &g.K, &g.V); x != nil {
		return *x
	}
	return g.Extra[extraIndex(info, i)]
}

// SetInput sets the gradient of the i-th declared input of info; Extra grows as needed.
func (g *Grads) SetInput(info *Info, i int, v View) {
	if x := place(info, i, &g.Q, &g.K, &g.V); x != nil {
		*x = v
		return
	}
	g.Extra = setExtra(g.Extra, extraIndex(info, i), v)
}

// place returns which of the default inputs the i-th declared one is; nil for a further one.
func place[V any](info *Info, i int, q, k, v *V) *V {
	switch info.Inputs[i].Name {
	case "q":
		return q
	case "k":
		return k
	case "v":
		return v
	}
	return nil
}

// extraIndex returns the place in Extra of the i-th declared input, a further one.
func extraIndex(info *Info, i int) int {
	n := 0
	for j := range info.Inputs[:i] {
		if !info.Inputs[j].isDefault() {
			n++
		}
	}
	return n
}

func setExtra[V any](extra []V, n int, v V) []V {
	for len(extra) <= n {
		extra = append(extra, *new(V))
	}
	extra[n] = v
	return extra
}

// Check compares the call with what info declares. A mechanism calls it first: after it, every
// row that a segment names can be read, and Out can be written.
func (c *CallOf[F]) Check(info *Info) error {
	if err := c.check(info); err != nil {
		return fmt.Errorf("%s: %w", info.Name, err)
	}
	return nil
}

func (c *CallOf[F]) check(info *Info) error {
	if err := c.Shape.Check(); err != nil {
		return err
	}
	if info.Masks&c.Mask == 0 {
		return fmt.Errorf("mask is %v: want %v", c.Mask, info.Masks)
	}
	if info.CheckShape != nil {
		if err := info.CheckShape(c.Shape); err != nil {
			return err
		}
	}
	extra := 0
	for i := range info.Inputs {
		in := &info.Inputs[i]
		var v ViewOf[F]
		switch in.Name {
		case "q":
			v = c.Q
		case "k":
			v = c.K
		case "v":
			v = c.V
		default:
			if extra >= len(c.Extra) {
				return fmt.Errorf("input %s is missing", in.Name)
			}
			v = c.Extra[extra]
			extra++
		}
		if v.Empty() && in.Optional {
			continue
		}
		time := c.QueryLen
		if in.From != QuerySide {
			time = c.KeyLen
		}
		if err := v.check("input ", in.Name, c.Batch, time, in.heads(c.Shape), in.width(c.Shape)); err != nil {
			return err
		}
	}
	if extra != len(c.Extra) {
		return fmt.Errorf("%d extra inputs: want %d", len(c.Extra), extra)
	}
	if err := c.Out.check("output", "", c.Batch, c.QueryLen, c.Heads, c.ValueDim); err != nil {
		return err
	}
	if err := checkTensors("learned tensor", info.Learned, c.Learned, c.Shape); err != nil {
		return err
	}
	if err := checkTensors("buffer", info.Buffers, c.Buffers, c.Shape); err != nil {
		return err
	}
	if err := c.checkSegments(); err != nil {
		return err
	}
	want := 0
	if info.Carry != nil {
		want = c.NumSegments() * info.Carry(c.Shape)
	}
	if c.Initial != nil && len(c.Initial) != want {
		return fmt.Errorf("initial state of %d numbers: want %d", len(c.Initial), want)
	}
	if c.Final != nil && len(c.Final) != want {
		return fmt.Errorf("final state of %d numbers: want %d", len(c.Final), want)
	}
	return nil
}

func checkTensors[F Float](what string, want []Tensor, got [][]F, s Shape) error {
	if len(got) != len(want) {
		return fmt.Errorf("%d %ss: want %d", len(got), what, len(want))
	}
	for i := range want {
		if n := want[i].Len(s); len(got[i]) != n {
			return fmt.Errorf("%s %s has %d numbers: want %d", what, want[i].Name, len(got[i]), n)
		}
	}
	return nil
}

func (c *CallOf[F]) checkSegments() error {
	row, end := 0, 0
	for i, g := range c.Segments {
		if g.Row < 0 || g.Row >= c.Batch {
			return fmt.Errorf("segment %d: row is %d: want 0 to %d", i, g.Row, c.Batch-1)
		}
		if g.Query0 < 0 || g.Queries < 0 || g.Query0 > c.QueryLen-g.Queries {
			return fmt.Errorf("segment %d: queries %d+%d: want them within %d", i, g.Query0, g.Queries, c.QueryLen)
		}
		if g.Key0 < 0 || g.Keys < 0 || g.Key0 > c.KeyLen-g.Keys {
			return fmt.Errorf("segment %d: keys %d+%d: want them within %d", i, g.Key0, g.Keys, c.KeyLen)
		}
		if g.Row < row || g.Row == row && g.Query0 < end {
			return fmt.Errorf("segment %d: want segments sorted by row and query, without overlap", i)
		}
		row, end = g.Row, g.Query0+g.Queries
	}
	return nil
}

// Check compares the gradients with the call c. Backward calls it after c.Check.
func (g *Grads) Check(info *Info, c *Call) error {
	wrap := func(err error) error { return fmt.Errorf("%s: gradient of %w", info.Name, err) }
	if g == nil {
		return fmt.Errorf("%s: no gradients given", info.Name)
	}
	if err := g.Out.check("output", "", c.Batch, c.QueryLen, c.Heads, c.ValueDim); err != nil {
		return wrap(err)
	}
	if len(g.Extra) != len(c.Extra) {
		return wrap(fmt.Errorf("extra inputs: %d: want %d", len(g.Extra), len(c.Extra)))
	}
	pair := func(name string, x, dx View) error {
		if x.Empty() {
			return nil
		}
		return dx.check("input ", name, x.Batch, x.Time, x.Heads, x.Dim)
	}
	extra := 0
	for i := range info.Inputs {
		in := &info.Inputs[i]
		var err error
		switch in.Name {
		case "q":
			err = pair("q", c.Q, g.Q)
		case "k":
			err = pair("k", c.K, g.K)
		case "v":
			err = pair("v", c.V, g.V)
		default:
			err = pair(in.Name, c.Extra[extra], g.Extra[extra])
			extra++
		}
		if err != nil {
			return wrap(err)
		}
	}
	if err := checkTensors("learned tensor", info.Learned, g.Learned, c.Shape); err != nil {
		return wrap(err)
	}
	if c.Initial != nil && len(g.Initial) != len(c.Initial) {
		return wrap(fmt.Errorf("initial state: %d numbers: want %d", len(g.Initial), len(c.Initial)))
	}
	if g.Final != nil && (c.Final == nil || len(g.Final) != len(c.Final)) {
		return wrap(fmt.Errorf("final state: %d numbers: want %d", len(g.Final), len(c.Final)))
	}
	if c.Saved == nil {
		return fmt.Errorf("%s: backward without what forward saved: want Call.Saved set in both", info.Name)
	}
	return nil
}

// ZeroPadding clears the rows of Out that no segment covers. A Forward calls it once.
func (c *CallOf[F]) ZeroPadding() {
	if c.Segments == nil {
		return
	}
	row, at := 0, 0
	clearTo := func(r, t int) { // from (row, at) up to (r, t)
		for row < r || row == r && at < t {
			if at == c.QueryLen {
				row, at = row+1, 0
				continue
			}
			for h := range c.Heads {
				clear(c.Out.Row(row, at, h))
			}
			at++
		}
	}
	for _, g := range c.Segments {
		clearTo(g.Row, g.Query0)
		row, at = g.Row, g.Query0+g.Queries
	}
	clearTo(c.Batch, 0)
}
