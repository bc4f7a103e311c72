package sparse

import (
	"fmt"

	"attnbench/attn"
	"attnbench/attn/tile"
)

func init() { attn.Register("quest", Quest{Page: 16, Budget: 1024, Dense: 2}, Quest.New) }

// Quest holds the options of query-aware sparsity, spelled quest:page=16,budget=1024,dense=2.
type Quest struct {
	Page   int `opt:"page"`   // tokens a page; at least 1
	Budget int `opt:"budget"` // tokens that a later query reads, in whole pages; at least a page
	Dense  int `opt:"dense"`  // first layers of the model that read all; at least 0
}

// New returns full attention whose decoding reads the pages that matter to the query.
func (o Quest) New() (attn.Mechanism, error) {
	switch {
	case o.Page < 1 || o.Page > most:
		return nil, attn.OptionError("page", o.Page, "an integer from 1 to 2^30")
	case o.Budget < o.Page || o.Budget > most:
		return nil, attn.OptionError("budget", o.Budget, "an integer from the page to 2^30")
	case o.Dense < 0 || o.Dense > most:
		return nil, attn.OptionError("dense", o.Dense, "an integer from 0 to 2^30")
	}
	m := quest{o: o, layouts: new(tile.SegmentPool)}
	m.paged = tile.Softmax{Pattern: tile.OwnBlock(o.Page), Reads: m.reads, Summary: tile.Summary{Block: o.Page, Kind: tile.BoundKeys}}
	m.info = &attn.Info{
		Name: attn.Spell("quest", o), Family: "sparse", Title: "Query-aware sparsity (Quest)", Revision: 1,
		Paper: "Tang et al. 2024, arXiv:2406.10774", Year: 2024,
		Masks: attn.Causal, Approximates: true, Budget: "budget", Inference: true, SeesQuestion: true, Selects: true, Decode: attn.DecodeSameSplit,
		Inputs: attn.QKV(), Cost: m.cost,
		Limits: []attn.Limit{{Spec: func(attn.Shape) string { return attn.Spell("quest", o) }, Equals: "full"}},
	}
	return m, nil
}

type quest struct {
	o       Quest
	info    *attn.Info
	layouts *tile.SegmentPool
	paged   tile.Softmax
}

// Define computes full causal attention, which is what a prompt gets. Nothing is dropped. Behind its prompt a query at position t
// attends to the tokens j ≤ t of its own page c = ⌊t/Page⌋ and of the ⌊Budget/Page⌋ - 1 pages n < c of largest bound
//
//	U[n] = Σ_e max(q[e]·M[n,e], q[e]·m[n,e]) ≥ q·k[j] for j in n, with M and m the page's largest and smallest keys by channel
//
// of equal ones the earlier; each query head chooses. The first Dense layers read all. Tang et al. 2024 (arXiv:2406.10774) §3.3 and
// algorithm 1, by the rule of the authors' kernels.
func (m quest) Define(c *attn.Call64) error { return defineFull(c) }

// Info describes the mechanism.
func (m quest) Info() attn.Info { return *m.info }

// Forward computes full attention.
func (m quest) Forward(ws *attn.Workspace, c *attn.Call) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	dense.Forward(ws, c)
	return nil
}

// base returns the cache's engine at a layer.
func (m quest) base(s attn.Shape) tile.Softmax {
	if s.Layer < m.o.Dense {
		return dense
	}
	return m.paged
}

func (m quest) chosen(s attn.Shape) tile.Chosen {
	a := tile.NewChosen(m.paged, m.o.Page, min(m.o.Budget/m.o.Page-1, s.KeyLen/m.o.Page), false)
	return a.Reserve(reserveFor(s, a, 2*s.KeyDim))
}

// questState is a cache that knows whose prompt has ended.
type questState struct {
	*tile.Cache
	ended         []bool
	prompt, later []attn.Segment // of the call that extends it
}

// NewState returns an empty cache of all keys and values, with bounds for each complete page.
func (m quest) NewState(s attn.Shape) (attn.State, error) {
	c, err := m.base(s).NewState(m.info.Name, s)
	if err != nil {
		return nil, err
	}
	if s.Mask != attn.Causal {
		return nil, fmt.Errorf("%s: state for mask %v: want causal", m.info.Name, s.Mask)
	}
	return &questState{
		Cache: c.(*tile.Cache), ended: make([]bool, s.Batch), prompt: make([]attn.Segment, 0, s.Batch), later: make([]attn.Segment, 0, s.Batch),
	}, nil
}

// Reset empties a row.
func (s *questState) Reset(row int) {
	s.Cache.Reset(row)
	s.ended[row] = false
}

// Reorder makes row i a copy of what row from[i] was.
func (s *questState) Reorder(from []int) error {
	if err := s.Cache.Reorder(from); err != nil {
		return err
	}
	s.ended = picked(s.ended, from)
	return nil
}

// MarshalBinary returns a byte a row, 1 where the prompt has ended, and the cache.
func (s *questState) MarshalBinary() ([]byte, error) {
	b := make([]byte, len(s.ended))
	for i, e := range s.ended {
		if e {
			b[i] = 1
		}
	}
	c, err := s.Cache.MarshalBinary()
	return append(b, c...), err
}

// UnmarshalBinary reads a state of the same mechanism and shape; on error the state stays as it was.
func (s *questState) UnmarshalBinary(data []byte) error {
	if len(data) < len(s.ended) {
		return errCut
	}
	ended := make([]bool, len(s.ended))
	for i := range ended {
		if data[i] > 1 {
			return fmt.Errorf("state: prompt of row %d ended %d: want 0 or 1", i, data[i])
		}
		ended[i] = data[i] == 1
	}
	if err := s.Cache.UnmarshalBinary(data[len(ended):]); err != nil {
		return err
	}
	s.ended = ended
	return nil
}

// Extend appends the call's keys and values and computes its queries.
func (m quest) Extend(ws *attn.Workspace, state attn.State, c *attn.Call) error {
	s, ok := state.(*questState)
	if !ok || s == nil {
		return fmt.Errorf("%s: %w: %T", m.info.Name, errState, state)
	}
	if c.Layer < m.o.Dense {
		return dense.Extend(ws, m.info, s.Cache, c)
	}
	call, err := tile.Append(ws, m.info, s.Cache, c)
	if err != nil {
		return err
	}
	call.Saved = nil
	mark := ws.Mark()
	defer ws.Release(mark)
	s.prompt, s.later = s.prompt[:0], s.later[:0]
	for i, g := range call.Segments {
		if s.ended[g.Row] {
			s.later = append(s.later, g)
		} else {
			s.prompt = append(s.prompt, g)
			s.ended[g.Row] = c.EndOfPrompt && c.Segment(i).Keys > 0
		}
	}
	a := m.chosen(call.Shape)
	few := tile.Few(&call)
	n := c.Batch * c.Heads * c.QueryLen
	var lse []float32
	if !few {
		lse = ws.Floats(n)
	}
	choice, signed := ws.Ints(a.ChoiceLen(call.Shape)), attn.ViewAs(ws.Floats(n*2*c.KeyDim), c.Batch, c.QueryLen, c.Heads, 2*c.KeyDim)
	if len(s.prompt) > 0 {
		call.Segments = s.prompt
		full := dense.Reserve(m.worker(call.Shape))
		if few {
			full.Decode(ws, &call)
		} else {
			full.ForwardPart(ws, &call, lse)
		}
	}
	if len(s.later) == 0 {
		return nil
	}
	call.Segments = s.later
	m.bound(ws, &call, s, a, signed, choice)
	if few {
		a.Decode(ws, &call, s.Cache, choice)
	} else {
		a.ForwardSums(ws, &call, lse, choice)
	}
	return nil
}

// worker is the scratch of a worker in Extend, in floats.
func (m quest) worker(s attn.Shape) int {
	_, w := m.chosen(s).Scratch(s, attn.PassDecode)
	return int(w / 4)
}

// bound chooses each query's pages: U[n] = q⁺·M[n] + q⁻·m[n] for the positive and the negative part of q.
func (m quest) bound(ws *attn.Workspace, c *attn.Call, s *questState, a tile.Chosen, signed attn.View, choice []int32) {
	for _, g := range c.Segments {
		for i := g.Query0; i < g.Query0+g.Queries; i++ {
			for h := range c.Heads {
				to := signed.Row(g.Row, i, h)
				for e, x := range c.Q.Row(g.Row, i, h) {
					to[e], to[c.KeyDim+e] = max(x, 0), min(x, 0)
				}
			}
		}
	}
	bounds := summarise(ws, m.layouts, m.paged.Summary, c, s.Cache)
	defer m.layouts.Put(bounds.layout)
	d := *c
	d.Q, d.KeyDim = signed, 2*c.KeyDim
	choose(ws, &d, a, bounds, choice)
}

// reads counts the bounds, the query's own page, and the pages that the query heads of a group choose if no two choose the same.
func (m quest) reads(s attn.Shape, n int) int64 {
	before := n / m.o.Page
	tokens := n%m.o.Page + min(before, min(m.o.Budget/m.o.Page-1, before)*(s.Heads/s.KVHeads))*m.o.Page
	if m.o.Budget < 2*m.o.Page {
		before = 0 // there is no choice
	}
	return int64(s.KVHeads) * (int64(tokens)*int64(s.KeyDim+s.ValueDim) + int64(before)*2*int64(s.KeyDim))
}

func (m quest) cost(s attn.Shape, p attn.Pass) attn.Cost {
	c := m.base(s).Cost(s, p, s.Pairs()*int64(s.Heads))
	if p != attn.PassDecode {
		d := dense.Cost(s, p, s.Pairs()*int64(s.Heads))
		d.State, d.Read = c.State, c.Read
		return d
	}
	if s.Layer < m.o.Dense {
		return c
	}
	if s.KeyLen > s.QueryLen { // behind a prompt
		pairs, bounds := int64(0), int64(0)
		pages := m.o.Budget/m.o.Page - 1
		for t := s.KeyLen - s.QueryLen; t < s.KeyLen; t++ {
			before := t / m.o.Page
			pairs += int64(t%m.o.Page + 1 + min(pages, before)*m.o.Page)
			if pages > 0 {
				bounds += int64(before)
			}
		}
		c.FLOPs = 2 * int64(s.Batch) * int64(s.Heads) * (pairs*int64(s.KeyDim+s.ValueDim) + bounds*2*int64(s.KeyDim))
	}
	if s.Batch > 0 && s.QueryLen > 0 {
		n := s.Batch * s.Heads * s.QueryLen
		shared, worker := m.chosen(s).Scratch(s, attn.PassDecode)
		c.Shared = shared + 4*int64(attn.ScratchFloats(m.chosen(s).ChoiceLen(s), n*2*s.KeyDim))
		if s.QueryLen >= tile.FewQueries {
			c.Shared += 4 * int64(attn.ScratchFloats(n))
		}
		c.PerWorker = worker
	}
	return c
}
