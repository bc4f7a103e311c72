package task

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"attnbench/internal/options"
)

// RULER's tasks (Hsieh et al. 2024, arXiv:2404.06654) at token level: words are symbols of one token, so that no language has to be known. A row is a context,
// in which what is asked for is hidden, and a question with its answers. Answers of several tokens are, unless slots are asked for, read as they are decoded: each label
// stands on the answer before it. With slots the model answers all at once, and sees none of them.

const rulerPaper = "Hsieh et al. 2024, RULER (arXiv:2404.06654)"

// EffectiveThreshold is RULER's: what Llama 2 7B gets at 4,096 tokens.
const EffectiveThreshold = 0.856

// EffectiveLength is the longest of the ascending lengths up to which every score is above the threshold; 0 if the first is not.
func EffectiveLength(lengths []int, scores []float64, threshold float64) int {
	longest := 0
	for i, n := range lengths {
		if !(scores[i] > threshold) {
			break
		}
		longest = n
	}
	return longest
}

// MatchAll is the share of the references that are among the answers, in any order.
func MatchAll(references, answers []int32) float64 {
	found := 0
	for _, r := range references {
		if slices.Contains(answers, r) {
			found++
		}
	}
	return float64(found) / float64(len(references))
}

// ruler completes a task of rows up to length, half as long, and so on down to shortest; those up to trained are trained too.
func ruler(g generated, length, trained, shortest int, row func(rng *rand.Rand, tokens, labels []int32)) (Task, error) {
	if length < shortest || length > 1<<24 {
		return nil, options.Error("length", length, fmt.Sprintf("%d to %d", shortest, 1<<24))
	}
	lengths := lengthsTo(length, shortest)
	if !slices.Contains(lengths, trained) {
		return nil, options.Error("trained", trained, fmt.Sprintf("one of the lengths tested, %v", lengths))
	}
	g.info.Paper = rulerPaper
	for _, n := range lengths {
		s := setting{n, row}
		if g.test = append(g.test, s); n <= trained {
			g.train = append(g.train, s)
		}
	}
	match := Metric{Unit: "match", Better: "higher", Chance: 1 / float64(g.answers), Help: "mean over rows of the share of its answers that are among those given, in any order"}
	g.extra = []Metric{match, {
		Unit: "effective-length", Better: "higher", Chance: math.NaN(),
		Help: fmt.Sprintf("longest rows up to which match is above %v at every length; 0 for none", EffectiveThreshold),
	}}
	for _, n := range lengths {
		match.Unit, match.Help = fmt.Sprintf("match@%d", n), fmt.Sprintf("match of rows of %d tokens", n)
		g.extra = append(g.extra, match)
	}
	g.newExtra = func(*generated) extras { return &matching{lengths: lengths, byLength: make([]mean, len(lengths))} }
	return newGenerated(g)
}

// matching is RULER's score.
type matching struct {
	all      mean
	lengths  []int
	byLength []mean
}

func (m *matching) add(tokens, labels, predicted []int32) {
	var references, answers []int32
	for i, l := range labels {
		if l >= 0 {
			references, answers = append(references, l), append(answers, predicted[i])
		}
	}
	x := MatchAll(references, answers)
	m.all.add(x)
	if i := slices.Index(m.lengths, len(tokens)); i >= 0 {
		m.byLength[i].add(x)
	}
}

func (m *matching) values() []Value {
	v := m.all.appendTo(nil, "match", 1)
	var scores []float64
	for _, b := range m.byLength {
		scores = append(scores, b.sum/float64(b.n)) // NaN, which passes no threshold, of no rows
	}
	v = append(v, Value{"effective-length", float64(EffectiveLength(m.lengths, scores, EffectiveThreshold)), m.all.n})
	for i, n := range m.lengths {
		v = m.byLength[i].appendTo(v, fmt.Sprintf("match@%d", n), 1)
	}
	return v
}

// sentence is the length of the text that fills a haystack again and again: "The grass is green. The sky is blue. …" in words and stops.
const sentence = 25

// scatter lays parts of equal length among the fillers of body, in order, every set of places equally likely.
func scatter(rng *rand.Rand, body []int32, parts [][]int32, filler func(i int) int32) {
	size := 0
	if len(parts) > 0 {
		size = len(parts[0])
	}
	units := len(body) - len(parts)*(size-1)
	fillers := 0
	for at := 0; at < len(body); units-- {
		if rng.IntN(units) < len(parts) {
			at += copy(body[at:], parts[0])
			parts = parts[1:]
			continue
		}
		body[at] = filler(fillers)
		at, fillers = at+1, fillers+1
	}
}

// answer writes the labels of an answer on the tokens that ask for it: the question's last, and those after it, which hold the answer so far, or slots.
func answer(tokens, labels, list []int32, slot int32) {
	for i, x := range list {
		labels[i] = x
		switch {
		case i == 0:
		case slot >= 0:
			tokens[i] = slot + int32(i-1)
		default:
			tokens[i] = list[i-1]
		}
	}
}

// slotIf is the token of the first slot, or -1 for none.
func slotIf(slots bool, token int) int32 {
	if slots {
		return int32(token)
	}
	return -1
}
