package wordpiece

import (
	"cmp"
	"container/heap"
	"fmt"
	"iter"
	"maps"
	"slices"
	"unicode/utf8"
)

// Train learns a vocabulary of at most size pieces from texts: the special pieces, the characters that occur at least twice (the most frequent
// ones, in at most three quarters of the vocabulary), and what comes of merging the most frequent pair of neighbouring pieces of
// a word until the vocabulary is full or no pair occurs twice. Equal counts go by the order of the pieces, so that equal texts give
// equal vocabularies.
func Train(texts iter.Seq[string], size int) (*Vocabulary, error) {
	if least := len(specials) + 1; size < least || size > maxPiece {
		return nil, fmt.Errorf("wordpiece: a vocabulary of %d pieces: want %d to %d", size, least, maxPiece)
	}
	counts := map[string]int{}
	for text := range texts {
		for w := range Words(text) {
			if utf8.RuneCountInString(w) <= longest {
				counts[w]++
			}
		}
	}
	t := &trainer{ids: map[string]int32{}, pairs: map[pair]*entry{}}
	for _, s := range specials {
		t.add(s)
	}
	for _, s := range alphabet(counts, max(1, (size-len(specials))*3/4)) {
		t.add(s)
	}
	for _, w := range slices.Sorted(maps.Keys(counts)) {
		t.addWord(w, counts[w])
	}
	for i := range t.words {
		t.count(int32(i), +1)
	}
	for len(t.pieces) < size && t.merge() {
	}
	return New(t.pieces)
}

// alphabet returns the pieces of one character, the most frequent first.
func alphabet(counts map[string]int, most int) []string {
	letters := map[string]int{}
	for w, n := range counts {
		for i, r := range w {
			letters[piece(string(r), i > 0)] += n
		}
	}
	list := slices.SortedFunc(maps.Keys(letters), func(a, b string) int {
		return cmp.Or(cmp.Compare(letters[b], letters[a]), cmp.Compare(a, b))
	})
	for i, p := range list {
		if i == most || letters[p] < 2 {
			return list[:i]
		}
	}
	return list
}

func piece(text string, goesOn bool) string {
	if goesOn {
		return inner + text
	}
	return text
}

type pair struct{ a, b int32 }

// entry is what is known of a pair.
type entry struct {
	pair
	count  int
	queued int     // the count that it lies in the queue with
	words  []int32 // that hold or held it
}

// cut is a word as it is cut at present.
type cut struct {
	pieces []int32
	count  int
}

type trainer struct {
	pieces []string
	ids    map[string]int32
	words  []cut
	pairs  map[pair]*entry
	queue  queue
}

func (t *trainer) add(p string) int32 {
	id, known := t.ids[p]
	if !known {
		id = int32(len(t.pieces))
		t.ids[p], t.pieces = id, append(t.pieces, p)
	}
	return id
}

// addWord cuts a word into its characters. A word with one that is left out teaches nothing.
func (t *trainer) addWord(w string, count int) {
	c := cut{count: count}
	for i, r := range w {
		id, ok := t.ids[piece(string(r), i > 0)]
		if !ok {
			return
		}
		c.pieces = append(c.pieces, id)
	}
	t.words = append(t.words, c)
}

// count adds the pairs of a word, or takes them away.
func (t *trainer) count(word int32, sign int) {
	w := &t.words[word]
	for i := 1; i < len(w.pieces); i++ {
		p := pair{w.pieces[i-1], w.pieces[i]}
		e := t.pairs[p]
		if e == nil {
			e = &entry{pair: p}
			t.pairs[p] = e
		}
		e.count += sign * w.count
		if sign > 0 {
			if n := len(e.words); n == 0 || e.words[n-1] != word {
				e.words = append(e.words, word)
			}
			if e.count > e.queued {
				e.queued = e.count
				heap.Push(&t.queue, queued{e, e.count})
			}
		}
	}
}

// merge makes one piece of the most frequent pair. It reports whether there was one that occurs twice.
func (t *trainer) merge() bool {
	for t.queue.Len() > 0 {
		q := heap.Pop(&t.queue).(queued)
		e := q.e
		if q.count != e.queued {
			continue // it lies there again, or was done with
		}
		e.queued = 0
		if q.count != e.count { // it has become rarer since
			if e.count > 0 {
				e.queued = e.count
				heap.Push(&t.queue, queued{e, e.count})
			}
			continue
		}
		if e.count < 2 {
			return false
		}
		words := e.words
		e.words = nil
		id := t.add(t.pieces[e.a] + t.pieces[e.b][len(inner):])
		slices.Sort(words) // a word may have lost the pair and got it back
		for _, w := range slices.Compact(words) {
			t.count(w, -1)
			t.words[w].pieces = join(t.words[w].pieces, e.pair, id)
			t.count(w, +1)
		}
		return true
	}
	return false
}

// join replaces a pair by one piece, from the left.
func join(pieces []int32, p pair, id int32) []int32 {
	out := pieces[:0]
	for i := 0; i < len(pieces); i++ {
		if i+1 < len(pieces) && pieces[i] == p.a && pieces[i+1] == p.b {
			out = append(out, id)
			i++
			continue
		}
		out = append(out, pieces[i])
	}
	return out
}

// queued is a pair with the count that it had when it was put into the queue.
type queued struct {
	e     *entry
	count int
}

// queue is a heap: the most frequent pair first, then the one of the earlier pieces.
type queue []queued

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	a, b := q[i], q[j]
	return cmp.Or(cmp.Compare(b.count, a.count), cmp.Compare(a.e.a, b.e.a), cmp.Compare(a.e.b, b.e.b)) < 0
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(queued)) }
func (q *queue) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}
