package metric

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

const maxOrder = 4

// BLEU is the geometric mean of n-gram precisions of order 1 to 4 times a brevity penalty (Papineni et al. 2002, P02-1040):
//
//	BLEU = 100·min(1, e^(1-r/c))·(p1·p2·p3·p4)^¼
//
// c counts the hypothesis' tokens, r those of the reference of nearest length, the shorter of equals; an n-gram counts as often as in the reference that
// has most of it. The k-th order without a match has precision 1/(2^k·total) (exponential smoothing); no match at all is 0.
type BLEU struct{ tokenize string }

// NewBLEU returns BLEU with a tokenisation: 13a, zh or none, which splits at blanks.
func NewBLEU(tokenize string) (BLEU, error) {
	if tokenizers[tokenize] == nil {
		return BLEU{}, fmt.Errorf("bleu: tokenisation %q: want 13a, zh or none", tokenize)
	}
	return BLEU{tokenize}, nil
}

// Signature has the form of sacreBLEU's, with this implementation for its version.
func (b BLEU) Signature(refs string) string {
	return fmt.Sprintf("BLEU|nrefs:%s|bs:%d|seed:%d|case:mixed|eff:no|tok:%s|smooth:exp|version:attnbench.1", refs, Resamples, Seed, b.tokenize)
}

// Count returns the lengths of hypothesis and reference, and for each order the n-grams that match and all of the hypothesis.
func (b BLEU) Count(hypothesis string, refs []string) []int {
	tokenize := tokenizers[b.tokenize]
	hyp := tokenize(strings.TrimRightFunc(hypothesis, isSpace))
	most := map[string]int{}
	length := -1
	for _, ref := range refs {
		words := tokenize(strings.TrimRightFunc(ref, isSpace))
		for gram, n := range wordGrams(words) {
			most[gram] = max(most[gram], n)
		}
		if d, best := abs(len(words)-len(hyp)), abs(length-len(hyp)); length < 0 || d < best || d == best && len(words) < length {
			length = len(words)
		}
	}
	counts := make([]int, 2+2*maxOrder)
	counts[0], counts[1] = len(hyp), length
	for gram, n := range wordGrams(hyp) {
		counts[2+2*strings.Count(gram, " ")] += min(n, most[gram])
	}
	for order := range maxOrder {
		counts[3+2*order] = max(0, len(hyp)-order)
	}
	return counts
}

func abs(x int) int { return max(x, -x) }

// wordGrams counts the n-grams of order 1 to 4, their words between blanks.
func wordGrams(words []string) map[string]int {
	grams := map[string]int{}
	for i := range words {
		for n := 1; n <= min(maxOrder, len(words)-i); n++ {
			grams[strings.Join(words[i:i+n], " ")]++
		}
	}
	return grams
}

// Score returns BLEU of summed counts.
func (b BLEU) Score(counts []int) float64 {
	c, r := float64(counts[0]), float64(counts[1])
	smooth, sum, any := 1.0, 0.0, false
	for order := range maxOrder {
		match, total := counts[2+2*order], counts[3+2*order]
		if total == 0 {
			return 0
		}
		p := float64(match)
		if match == 0 {
			smooth *= 2
			p = 1 / smooth
		} else {
			any = true
		}
		sum += math.Log(p / float64(total))
	}
	if !any {
		return 0
	}
	return 100 * min(1, math.Exp(1-r/c)) * math.Exp(sum/maxOrder)
}

// ChrF is the F-score of character n-grams (Popović 2015, W15-3049), recall Beta times as important as precision, both averaged
// over the orders that hypothesis and reference have:
//
//	chrF = 100·(1+β²)·P·R/(β²·P+R)
//
// Of several references the one with the best score counts.
type ChrF struct {
	Order int     // longest n-gram
	Beta  float64 // chrF2 has 2
	Space bool    // blanks count as characters
}

// ChrF2 is chrF as it is commonly reported: order 6, β 2, without blanks.
var ChrF2 = ChrF{Order: 6, Beta: 2}

// Signature has the form of sacreBLEU's, with this implementation for its version.
func (f ChrF) Signature(refs string) string {
	space := "no"
	if f.Space {
		space = "yes"
	}
	return fmt.Sprintf("chrF%v|nrefs:%s|bs:%d|seed:%d|case:mixed|eff:yes|nc:%d|nw:0|space:%s|version:attnbench.1", f.Beta, refs, Resamples, Seed, f.Order, space)
}

// Count returns for each order the n-grams of the hypothesis, of the reference, and those that match.
func (f ChrF) Count(hypothesis string, refs []string) []int {
	hyp := f.grams(hypothesis)
	var best []int
	top := -1.0
	for _, r := range refs {
		ref := f.grams(r)
		counts := make([]int, 3*f.Order)
		for gram, n := range ref {
			counts[3*(len(gram)/4-1)+1] += n
		}
		for gram, n := range hyp {
			order := len(gram)/4 - 1
			if counts[3*order+1] > 0 { // an order that the reference is too short for is left out
				counts[3*order] += n
				counts[3*order+2] += min(n, ref[gram])
			}
		}
		if s := f.Score(counts); s > top {
			best, top = counts, s
		}
	}
	return best
}

// grams counts the character n-grams, spelled with four bytes a character.
func (f ChrF) grams(line string) map[string]int {
	text := []rune(line)
	if !f.Space {
		text = slices.DeleteFunc(text, isSpace)
	}
	wide := make([]byte, 0, 4*len(text))
	for _, r := range text {
		wide = append(wide, byte(r), byte(r>>8), byte(r>>16), byte(r>>24))
	}
	grams := map[string]int{}
	for i := range text {
		for n := 1; n <= min(f.Order, len(text)-i); n++ {
			grams[string(wide[4*i:4*(i+n)])]++
		}
	}
	return grams
}

// Score returns chrF of summed counts.
func (f ChrF) Score(counts []int) float64 {
	precision, recall, orders := 0.0, 0.0, 0.0
	for i := 0; i < len(counts); i += 3 {
		if hyp, ref, match := counts[i], counts[i+1], counts[i+2]; hyp > 0 && ref > 0 {
			precision += float64(match) / float64(hyp)
			recall += float64(match) / float64(ref)
			orders++
		}
	}
	if precision+recall == 0 {
		return 0
	}
	precision, recall = precision/orders, recall/orders
	b := f.Beta * f.Beta
	return 100 * (1 + b) * precision * recall / (b*precision + recall)
}
