package harness

import (
	"fmt"
	"math"
	"slices"

	"attnbench/attn"
	"attnbench/results"

	"golang.org/x/perf/benchfmt"
)

// Crossing says from which context length on a mechanism beats the base in one quantity.
type Crossing struct {
	Mech, Quantity string
	// From is the length, Low and High bound it with the given confidence. 0 means from the smallest length on or below, +Inf
	// that it does not happen up to the largest.
	From, Low, High, Confidence float64
	Exact                       bool // by the closed form, without an interval
	Samples                     int
	First, Last                 int     // lengths between which it was looked for
	AtFirst, AtLast             float64 // the quantity there, as a share of the base's
}

// Memory quantities of each kind.
var memoryOf = map[Kind]string{Prefill: "scratch", Train: "scratch and saved", Decode: "state"}

// Crossings returns what the results in set and the closed forms say, for each mechanism and kind: time, then memory. What cannot be measured is left
// out.
func (x *Crossover) Crossings(set *results.Set) ([]Crossing, error) {
	var list []Crossing
	for _, mech := range x.mechs {
		for _, k := range x.Kinds {
			if c, ok := x.time(set, mech, k); ok {
				list = append(list, c)
			}
			c, ok, err := x.memory(mech, k)
			if err != nil {
				return nil, err
			}
			if ok {
				list = append(list, c)
			}
		}
	}
	return list, nil
}

// ratios returns the lengths that every seed has a result at, and the ratios of each seed there.
func (x *Crossover) ratios(set *results.Set, mech string, k Kind) (lengths []int, of [][]float64) {
	at := map[string]float64{}
	for _, r := range set.Results {
		if v, ok := r.Value("of-base"); ok {
			at[string(r.Name)+" "+seedOf(r)] = v
		}
	}
	of = make([][]float64, x.Samples)
	for _, n := range x.lengths(mech, k) {
		name := x.duel(mech, k, n).Name()
		var row []float64
		for i := range x.Samples {
			if v, ok := at[fmt.Sprint(name, " ", x.Seed+uint64(i))]; ok {
				row = append(row, v)
			}
		}
		if len(row) < x.Samples {
			continue
		}
		lengths = append(lengths, n)
		for i, v := range row {
			of[i] = append(of[i], v)
		}
	}
	return lengths, of
}

// seedOf returns the seed of a result, a figure in files and configuration in memory.
func seedOf(r *benchfmt.Result) string {
	if v, ok := r.Value(results.SeedUnit); ok {
		return fmt.Sprint(uint64(v))
	}
	return r.GetConfig("seed")
}

func (x *Crossover) time(set *results.Set, mech string, k Kind) (Crossing, bool) {
	lengths, of := x.ratios(set, mech, k)
	if len(lengths) == 0 {
		return Crossing{}, false
	}
	var from []float64
	for _, row := range of {
		from = append(from, crossing(lengths, row))
	}
	last := len(lengths) - 1
	c := Crossing{
		Mech: mech, Quantity: k.String() + " time", Samples: len(of), First: lengths[0], Last: lengths[last],
		AtFirst: median(column(of, 0)), AtLast: median(column(of, last)),
	}
	c.From, c.Low, c.High, c.Confidence = between(from)
	return c, true
}

// crossing returns the length from which on ratios stay below 1, on the line through the last one that does not and the next, both logarithmic.
func crossing(lengths []int, ratios []float64) float64 {
	last := -1
	for i, r := range ratios {
		if !(r < 1) {
			last = i
		}
	}
	switch last {
	case -1:
		return 0
	case len(ratios) - 1:
		return math.Inf(1)
	}
	a, b := math.Log(float64(lengths[last])), math.Log(float64(lengths[last+1]))
	ya, yb := math.Log(ratios[last]), math.Log(ratios[last+1])
	return math.Exp(a + (b-a)*ya/(ya-yb))
}

// between returns the median of values and the interval in which it lies, by their order alone, so that 0 and +Inf may be among them.
func between(values []float64) (mid, low, high, confidence float64) {
	v := slices.Clone(values)
	slices.Sort(v)
	ranks := make([]float64, len(v))
	for i := range ranks {
		ranks[i] = float64(i)
	}
	f := results.NewFigure(results.Unit{}, ranks)
	clamp := func(r float64) int { return min(max(int(r), 0), len(v)-1) }
	a, b := v[clamp(math.Floor(f.Median))], v[clamp(math.Ceil(f.Median))]
	mid = math.Sqrt(a * b)
	if a == b || a == 0 || math.IsInf(b, 1) {
		mid = b // of a half-open pair, the end that promises less
	}
	return mid, v[clamp(f.Low)], v[clamp(f.High)], f.Confidence
}

func column(rows [][]float64, i int) []float64 {
	var v []float64
	for _, r := range rows {
		v = append(v, r[i])
	}
	return v
}

func median(v []float64) float64 { return results.NewFigure(results.Unit{}, v).Median }

// Refine adds a length in the middle of each pair of neighbours between which the median time crosses the base's, and reports how many there are. Pairs that
// are near each other by an eighth are near enough.
func (x *Crossover) Refine(set *results.Set) int {
	if x.more == nil {
		x.more = map[string][]int{}
	}
	added := 0
	for _, mech := range x.mechs {
		for _, k := range x.Kinds {
			lengths, of := x.ratios(set, mech, k)
			last := -1
			for i := range lengths {
				if !(median(column(of, i)) < 1) {
					last = i
				}
			}
			if last < 0 || last+1 >= len(lengths) || float64(lengths[last+1]) < 1.125*float64(lengths[last]) {
				continue
			}
			mid := int(math.Round(math.Sqrt(float64(lengths[last]) * float64(lengths[last+1]))))
			if mid > 64 {
				mid = (mid + 4) / 8 * 8
			}
			if mid > lengths[last] && mid < lengths[last+1] {
				x.more[mech+"/"+k.String()] = append(x.more[mech+"/"+k.String()], mid)
				added++
			}
		}
	}
	return added
}

// memory looks for the crossing of the closed forms, which the conformance kit holds against what is taken.
func (x *Crossover) memory(mech string, k Kind) (c Crossing, ok bool, err error) {
	var infos [2]attn.Info
	for i, spec := range []string{mech, x.Base} {
		m, err := newMechanism(spec)
		if err != nil {
			return c, false, err
		}
		infos[i] = m.Info()
		_, decodes := m.(attn.Incremental)
		_, trains := m.(attn.Differentiable)
		if k == Decode && !decodes || k == Train && !trains || infos[i].Cost == nil {
			return c, false, nil
		}
	}
	bytes := func(i, n int) (int64, bool) {
		d := x.duel(mech, k, n)
		s := d.mech.Shape()
		if infos[i].Masks&s.Mask == 0 || infos[i].CheckShape != nil && infos[i].CheckShape(s) != nil {
			return 0, false
		}
		return memoryBytes(&infos[i], s, k), true
	}
	below := func(n int) bool {
		a, okA := bytes(0, n)
		b, okB := bytes(1, n)
		return okA && okB && a < b
	}
	share := func(n int) float64 {
		a, _ := bytes(0, n)
		b, _ := bytes(1, n)
		return float64(a) / float64(b)
	}
	lengths := x.Lengths
	c = Crossing{Mech: mech, Quantity: k.String() + " " + memoryOf[k], Exact: true, Samples: 1, Confidence: 1,
		First: lengths[0], Last: lengths[len(lengths)-1]}
	c.AtFirst, c.AtLast = share(c.First), share(c.Last)
	if _, ok := bytes(0, c.Last); !ok {
		return c, false, nil
	}
	last := -1
	for i, n := range lengths {
		if !below(n) {
			last = i
		}
	}
	switch last {
	case -1:
	case len(lengths) - 1:
		c.From = math.Inf(1)
	default:
		lo, hi := lengths[last], lengths[last+1]
		for hi-lo > 1 {
			if mid := (lo + hi) / 2; below(mid) {
				hi = mid
			} else {
				lo = mid
			}
		}
		c.From = float64(hi)
	}
	c.Low, c.High = c.From, c.From
	return c, true, nil
}

// memoryBytes is what a pass takes beside its inputs and outputs: scratch; when training what is saved too; when decoding the state.
func memoryBytes(info *attn.Info, s attn.Shape, k Kind) int64 {
	switch k {
	case Train:
		f, b := info.Cost(s, attn.PassForward), info.Cost(s, attn.PassBackward)
		return max(scratch(f), scratch(b)) + f.Saved
	case Decode:
		s.QueryLen = 1
		return info.Cost(s, attn.PassDecode).State
	}
	return scratch(info.Cost(s, attn.PassForward))
}
