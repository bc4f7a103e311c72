package harness

import (
	"math"
	"runtime"
	"sync"

	"attnbench/attn"
	"attnbench/results"
)

// Full attention is computed for some queries only: at most exactRows a head, and exactPairs pairs
// of a query and a key.
const (
	exactRows  = 64
	exactPairs = 64 * 4096
)

// fidelity returns the error of the output that Forward left against the mechanism's own definition in
// float64, when there are at most longest tokens, and, when it is meant to approximate full attention, against that on
// the same queries, keys and values. An error is relative: the root of Σ(x-y)²/Σy².
func (p *probe) fidelity(longest int) ([]results.Value, error) {
	var list []results.Value
	if d, ok := p.m.(attn.Defined); ok && p.call.KeyLen <= longest {
		want := widen(p.call)
		if err := d.Define(want); err != nil {
			return nil, err
		}
		var e relErr
		for i, y := range want.Out.Data {
			e.add(float64(p.call.Out.Data[i]), y)
		}
		list = append(list, results.Value{Value: e.value(), Unit: "rel-err"})
	}
	if v, ok := fullErr(p.call, 0); ok && p.info.Approximates {
		list = append(list, results.Value{Value: v, Unit: "full-err"})
	}
	return list, nil
}

// fullErr compares the output of a call with full attention at queries that lie evenly over the sequence from query first on. ok is
// false when its inputs are no q, k and v of full attention.
func fullErr(c *attn.Call, first int) (err float64, ok bool) {
	if c.Q.Dim != c.K.Dim || c.Q.Heads != c.Heads || c.K.Heads != c.KVHeads || c.V.Heads != c.KVHeads || c.V.Dim != c.ValueDim {
		return 0, false
	}
	rows := min(c.QueryLen-first, exactRows, max(1, exactPairs/c.KeyLen))
	errs := make([]relErr, c.Batch*c.Heads)
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	var wait sync.WaitGroup
	n := 0
	c.EachHead(func(h attn.HeadOf[float32]) {
		e := &errs[n]
		n++
		slots <- struct{}{}
		wait.Go(func() {
			for r := range rows {
				i := first + (2*r+1)*(h.Queries-first)/(2*rows)
				for d, y := range softmaxRow(h, i) {
					e.add(float64(h.Out(i)[d]), y)
				}
			}
			<-slots
		})
	})
	wait.Wait()
	var all relErr
	for _, e := range errs {
		all.diff += e.diff
		all.size += e.size
	}
	return all.value(), true
}

// softmaxRow is full attention for one query, in float64:
//
//	o = Σ_j p[j] v[j],  p = softmax_j(q·k[j] / √d) over the keys that the mask lets it see
//
// Vaswani et al. 2017 (arXiv:1706.03762) equation 1.
func softmaxRow(h attn.HeadOf[float32], i int) []float64 {
	q, p := h.Q(i), make([]float64, h.Keys)
	for j := range p {
		p[j] = math.Inf(-1)
		if h.Sees(i, j) {
			p[j] = 0
			for d, k := range h.K(j) {
				p[j] += float64(q[d]) * float64(k)
			}
			p[j] /= math.Sqrt(float64(len(q)))
		}
	}
	attn.Softmax(p)
	o := make([]float64, h.Call.ValueDim)
	for j := range p {
		if p[j] != 0 {
			for d, v := range h.V(j) {
				o[d] += p[j] * float64(v)
			}
		}
	}
	return o
}

// relErr adds up a relative root mean square error.
type relErr struct{ diff, size float64 }

func (e *relErr) add(got, want float64) {
	e.diff += (got - want) * (got - want)
	e.size += want * want
}

func (e *relErr) value() float64 {
	if e.diff == 0 {
		return 0
	}
	return math.Sqrt(e.diff / e.size)
}
