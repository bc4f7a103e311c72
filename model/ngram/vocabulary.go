package ngram

import (
	"slices"
	"strings"
)

// Words numbers the words of a text: 0 is <unk>, which stands for all others, 1 is <s> and 2 is </s>.
type Words struct {
	List  []string
	index map[string]int32
}

// NewWords returns the words that stand in lines at least the given number of times, in sorted order.
func NewWords(lines []string, least int) *Words {
	var all []string
	for _, l := range lines {
		all = append(all, strings.Fields(l)...)
	}
	slices.Sort(all)
	v := &Words{List: []string{"<unk>", "<s>", "</s>"}, index: map[string]int32{}}
	for i := 0; i < len(all); {
		j := i
		for j < len(all) && all[j] == all[i] {
			j++
		}
		if j-i >= least && !slices.Contains(v.List[:3], all[i]) {
			v.List = append(v.List, all[i])
		}
		i = j
	}
	for i, w := range v.List {
		v.index[w] = int32(i)
	}
	return v
}

// Begin is the token of <s>.
const Begin int32 = 1

// Sentence returns the tokens of a line, blanks between its words, with <s> before and </s> after.
func (v *Words) Sentence(line string) []int32 {
	tokens := []int32{Begin}
	for _, w := range strings.Fields(line) {
		t := v.index[w] // <unk> when it is not there
		if t == Begin {
			t = 0 // a text may not begin a sentence within one
		}
		tokens = append(tokens, t)
	}
	return append(tokens, 2)
}
