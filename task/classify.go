package task

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
)

// example is a labelled text or picture, byte by byte.
type example struct {
	bytes []byte
	class int
}

// examples are those for training, validation and testing.
type examples [3][]example

// Tokens after the bytes; the classes follow.
const (
	askToken = 256 + iota
	padToken
	sepToken
	classTokens
)

// newClassifier returns the task of naming the class of examples: their first bytes, as many as fit in rows of the given length, then a question, which is labelled with a token
// of the class, then padding. At most eval rows of the test set are scored, spread evenly; 0 means all. row writes an example and returns the place of the question.
func newClassifier(info Info, list examples, classes, length, eval int, row func(e example, tokens []int32) int) (Task, error) {
	if err := within(limit{"eval", eval, 0, 1 << 40}); err != nil {
		return nil, err
	}
	for i, part := range list {
		if len(part) == 0 {
			return nil, fmt.Errorf("no examples for %s: want at least one", [3]string{"training", "validation", "testing"}[i])
		}
	}
	info.Vocab, info.Length, info.Data = classTokens+classes, length, list.data(info.Data)
	fill := func(e example, tokens, labels []int32) {
		for i := range tokens {
			tokens[i] = padToken
		}
		n := row(e, tokens)
		tokens[n], labels[n] = askToken, int32(classTokens+e.class)
	}
	test := list[2]
	if eval > 0 && eval < len(test) {
		some := make([]example, eval)
		for i := range some {
			some[i] = test[i*len(test)/eval]
		}
		test = some
	}
	parts := [2][]example{list[1], test}
	return newGenerated(generated{
		info: info, answers: classes,
		train: []setting{{length, func(rng *rand.Rand, tokens, labels []int32) {
			fill(list[0][rng.IntN(len(list[0]))], tokens, labels)
		}}},
		fixed: func(split Split, i int, tokens, labels []int32) { fill(parts[split][i], tokens, labels) }, counts: [2]int{len(list[1]), len(test)},
	})
}

// firstBytes writes as many bytes of an example as leave room for the question, and returns where that stands.
func firstBytes(e example, tokens []int32) int {
	n := min(len(e.bytes), len(tokens)-1)
	for i, c := range e.bytes[:n] {
		tokens[i] = int32(c)
	}
	return n
}

// data describes the examples by number and content.
func (list examples) data(about string) string {
	h := sha256.New()
	for _, part := range list {
		for _, e := range part {
			h.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(e.bytes))<<16|uint64(e.class)))
			h.Write(e.bytes)
		}
	}
	s := fmt.Sprintf("train %d, valid %d, test %d examples, sha256 %.16x", len(list[0]), len(list[1]), len(list[2]), h.Sum(nil))
	if about != "" {
		s = about + ", " + s
	}
	return s
}

// tenth moves every tenth example of the first part to the second: the validation set of data that has none.
func (list *examples) tenth() {
	var train []example
	for i, e := range list[0] {
		if i%10 == 9 {
			list[1] = append(list[1], e)
		} else {
			train = append(train, e)
		}
	}
	list[0] = train
}
