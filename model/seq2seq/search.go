package seq2seq

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"attnbench/autograd"
	"attnbench/internal/kernel"
	"attnbench/model"
)

// Limits say where an output begins and ends. It has at most Ratio times the source's tokens and Extra more, and at most Most.
type Limits struct {
	Begin, End int32
	Ratio      float64
	Extra      int
	Most       int // 0 for no bound
}

func (l *Limits) of(source []int32) int {
	n := l.Ratio*float64(len(source)) + float64(l.Extra)
	if l.Most > 0 {
		n = min(n, float64(l.Most))
	}
	return int(min(max(n, 0), 1<<30)) // a float64 beyond an int becomes any number
}

// Sample writes one output for each source, by a sampler; the zero sampler is greedy. Output i draws from a random stream of its own. Outputs are
// without begin and end.
func Sample(t *autograd.Tape, m Model, sources [][]int32, l Limits, s model.Sampler, seed uint64) ([][]int32, error) {
	if err := s.Check(); err != nil {
		return nil, fmt.Errorf("seq2seq: %w", err)
	}
	st, err := m.Start(t, sources, 1)
	if err != nil {
		return nil, err
	}
	out := make([][]int32, len(sources))
	last := make([]int32, len(sources))
	random := make([]*rand.Rand, len(sources))
	limit, open := make([]int, len(sources)), 0
	for i, src := range sources {
		last[i], random[i] = l.Begin, rand.New(rand.NewPCG(seed, uint64(i)))
		if limit[i] = l.of(src); limit[i] > 0 {
			open++
		}
	}
	for open > 0 {
		logits, err := m.Next(t, st, last)
		if err != nil {
			return nil, err
		}
		for i := range out {
			if len(out[i]) >= limit[i] {
				continue
			}
			last[i] = s.Next(logits[i*m.Vocab():(i+1)*m.Vocab()], random[i])
			if last[i] == l.End {
				limit[i] = 0
			} else {
				out[i] = append(out[i], last[i])
			}
			if len(out[i]) >= limit[i] {
				open--
			}
		}
	}
	return out, nil
}

// Beam is a beam search (Graves 2012, arXiv:1211.3711; the penalty of Wu et al. 2016, arXiv:1609.08144, eq. 14). An output y of n tokens, the end
// among them, has the score
//
//	log p(y)/((5+n)/6)^Penalty
//
// and of those that ended among the Width best continuations the best is taken, once there are Width.
type Beam struct {
	Width   int
	Penalty float64 // 0 prefers short outputs, 1 compares means almost
}

const maxWidth = 1 << 16

// Output is what a search found.
type Output struct {
	Tokens []int32 // without begin and end
	Score  float64
	Ended  bool // not cut at the limit
}

// hypothesis is an output that is being written.
type hypothesis struct {
	tokens []int32
	logp   float64
}

// continuation is a hypothesis and its next token.
type continuation struct {
	row   int // of the hypothesis in its source's beam
	token int32
	logp  float64
}

// byScore puts the most likely first, of equals the one of the first hypothesis and the lowest token.
func byScore(a, b continuation) int {
	return cmp.Or(cmp.Compare(b.logp, a.logp), cmp.Compare(a.row, b.row), cmp.Compare(a.token, b.token))
}

// beam is the search for one source.
type beam struct {
	alive []hypothesis // at most width; the rows beyond are idle
	ended []Output
	limit int
	done  bool
}

// Search returns the best output found for each source.
func (b Beam) Search(t *autograd.Tape, m Model, sources [][]int32, l Limits) ([]Output, error) {
	if b.Width < 1 || b.Width > maxWidth || !(b.Penalty >= 0) || math.IsInf(b.Penalty, 0) {
		return nil, fmt.Errorf("seq2seq: beam of width %d and penalty %v: want 1 to %d, and a finite number of at least 0", b.Width, b.Penalty, maxWidth)
	}
	st, err := m.Start(t, sources, b.Width)
	if err != nil {
		return nil, err
	}
	beams := make([]beam, len(sources))
	last, from := make([]int32, len(sources)*b.Width), make([]int, len(sources)*b.Width)
	stay := make([]int, len(from))
	for i := range stay {
		stay[i] = i
	}
	open := 0
	for i, src := range sources {
		beams[i] = beam{alive: []hypothesis{{}}, limit: l.of(src)}
		if beams[i].limit == 0 {
			beams[i].finish(b)
			continue
		}
		open++
	}
	for i := range last {
		last[i] = l.Begin
	}
	pick := picker{keep: 2 * b.Width}
	for length := 1; open > 0; length++ {
		logits, err := m.Next(t, st, last)
		if err != nil {
			return nil, err
		}
		for i := range beams {
			rows := logits[i*b.Width*m.Vocab():]
			if beams[i].done {
				copy(from[i*b.Width:(i+1)*b.Width], stay[i*b.Width:])
				continue
			}
			chosen := beams[i].extend(b, l, &pick, rows, m.Vocab())
			for r := range b.Width {
				c := continuation{row: r, token: l.End} // an idle row
				if r < len(chosen) {
					c = chosen[r]
				}
				from[i*b.Width+r], last[i*b.Width+r] = i*b.Width+c.row, c.token
			}
			if length == beams[i].limit && !beams[i].done {
				beams[i].finish(b)
			}
			if beams[i].done {
				open--
			}
		}
		if slices.Equal(from, stay) {
			continue
		}
		if err := st.Reorder(from); err != nil {
			return nil, err
		}
	}
	out := make([]Output, len(beams))
	for i := range beams {
		out[i] = beams[i].ended[0]
		for _, o := range beams[i].ended {
			if o.Score > out[i].Score {
				out[i] = o
			}
		}
	}
	return out, nil
}

// score is the search's score of an output of n tokens.
func (b Beam) score(logp float64, n int) float64 {
	return logp / math.Pow(float64(5+n)/6, b.Penalty)
}

// finish ends the search at the limit, or where nothing can follow, with what is still being written.
func (x *beam) finish(b Beam) {
	for _, h := range x.alive {
		x.ended = append(x.ended, Output{h.tokens, b.score(h.logp, len(h.tokens)), false})
	}
	x.done = true
}

// extend takes a beam a token further and returns what continues, in the order of the new rows.
func (x *beam) extend(b Beam, l Limits, pick *picker, logits []float32, vocab int) []continuation {
	var all []continuation
	for r, h := range x.alive {
		all = pick.append(all, r, h.logp, logits[r*vocab:(r+1)*vocab])
	}
	if len(all) == 0 && len(x.ended) == 0 {
		x.finish(b)
		return nil
	}
	slices.SortFunc(all, byScore)
	var next []hypothesis
	var chosen []continuation
	for rank, c := range all {
		h := x.alive[c.row]
		switch {
		case c.token == l.End && rank < b.Width:
			x.ended = append(x.ended, Output{h.tokens, b.score(c.logp, len(h.tokens)+1), true})
		case c.token != l.End && len(chosen) < b.Width:
			chosen = append(chosen, c)
			next = append(next, hypothesis{append(slices.Clip(h.tokens), c.token), c.logp})
		}
	}
	x.alive = next
	x.done = len(x.ended) >= b.Width || len(next) == 0
	return chosen
}

// picker finds the most likely tokens of a row of logits.
type picker struct {
	keep int
	best []continuation
	buf  []float32
}

// append appends the keep most likely continuations of a hypothesis. A NaN is never one, nor is what has probability 0; an infinite logit has
// probability 1, which several share.
func (p *picker) append(dst []continuation, row int, logp float64, logits []float32) []continuation {
	p.best = p.best[:0]
	for i, x := range logits {
		c := continuation{row, int32(i), float64(x)}
		if x != x || x == minusInf || len(p.best) == p.keep && byScore(p.best[p.keep-1], c) <= 0 {
			continue
		}
		at, _ := slices.BinarySearchFunc(p.best, c, byScore)
		if len(p.best) == p.keep {
			p.best = p.best[:p.keep-1]
		}
		p.best = slices.Insert(p.best, at, c)
	}
	if len(p.best) == 0 {
		return dst
	}
	p.buf = append(p.buf[:0], logits...)
	sure := 0
	for i, x := range p.buf {
		if x != x {
			p.buf[i] = minusInf
		} else if x > math.MaxFloat32 {
			sure++
		}
	}
	top := float32(p.best[0].logp)
	norm := float64(top)
	if sure == 0 {
		norm += math.Log(float64(kernel.ExpSum(p.buf, top)))
	}
	for _, c := range p.best {
		switch {
		case sure == 0:
			c.logp += logp - norm
		case c.logp > math.MaxFloat32:
			c.logp = logp - math.Log(float64(sure))
		default:
			continue
		}
		dst = append(dst, c)
	}
	return dst
}

var minusInf = float32(math.Inf(-1))
