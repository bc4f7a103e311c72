package bpe

import (
	"cmp"
	"container/heap"
	"fmt"
	"iter"
	"maps"
	"slices"
	"unicode/utf8"
)

// Train learns a tokeniser of at most size tokens from texts: the special tokens, which come first, the 256 bytes, and merges of the pair that is
// most frequent within words, the one with the lowest numbers of equals, until none occurs twice. It is a
// function of its arguments alone.
func Train(texts iter.Seq[string], size int, special ...string) (*Tokenizer, error) {
	if least := len(special) + 256; size < least {
		return nil, fmt.Errorf("bpe: vocabulary of %d tokens: want at least %d, the bytes and the special tokens", size, least)
	}
	t := &Tokenizer{}
	for i, name := range special {
		if _, byteOf := unspell(name); slices.Index(special, name) != i || byteOf && utf8.RuneCountInString(name) < 2 || !utf8.ValidString(name) {
			return nil, fmt.Errorf("bpe: special token %q: want distinct names of at least two letters, in UTF-8", name)
		}
		t.special = append(t.special, Special{int32(i), name})
		t.tokens = append(t.tokens, name)
	}
	bytes := make([]byte, 256)
	for b := range bytes {
		bytes[b] = byte(b)
	}
	slices.SortFunc(bytes, func(a, b byte) int { return cmp.Compare(letters[a], letters[b]) })
	for _, b := range bytes {
		t.tokens = append(t.tokens, string([]byte{b}))
	}
	learn(t, texts, size)
	return t, t.build()
}

// learner counts the pairs of all words while they merge.
type learner struct {
	words [][]int32
	times []int // each word occurs
	count map[pair]int
	where map[pair]map[int]bool // words that have had the pair
	queue frequent
}

// frequency is a pair with the count it had when it was queued.
type frequency struct {
	pair  pair
	count int
}

type frequent []frequency

func (q frequent) Len() int { return len(q) }
func (q frequent) Less(i, j int) bool {
	a, b := q[i], q[j]
	return cmp.Or(cmp.Compare(b.count, a.count), cmp.Compare(a.pair.left, b.pair.left), cmp.Compare(a.pair.right, b.pair.right)) < 0
}
func (q frequent) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *frequent) Push(x any)   { *q = append(*q, x.(frequency)) }
func (q *frequent) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

func learn(t *Tokenizer, texts iter.Seq[string], size int) {
	ids := map[string]int32{}
	for id := len(t.special); id < len(t.tokens); id++ {
		ids[t.tokens[id]] = int32(id)
	}
	times := map[string]int{}
	for text := range texts {
		for w := range words(text) {
			times[w]++
		}
	}
	l := &learner{count: map[pair]int{}, where: map[pair]map[int]bool{}}
	for _, w := range slices.Sorted(maps.Keys(times)) {
		var word []int32
		for i := range len(w) {
			word = append(word, ids[w[i:i+1]])
		}
		l.words, l.times = append(l.words, word), append(l.times, times[w])
		l.add(len(l.words)-1, +1, nil)
	}
	for p, n := range l.count {
		l.queue = append(l.queue, frequency{p, n})
	}
	heap.Init(&l.queue)
	for len(t.tokens) < size && len(l.queue) > 0 {
		top := heap.Pop(&l.queue).(frequency)
		if n := l.count[top.pair]; n != top.count { // changed since it was queued
			if n > 0 {
				heap.Push(&l.queue, frequency{top.pair, n})
			}
			continue
		}
		if top.count < 2 {
			break
		}
		text := t.tokens[top.pair.left] + t.tokens[top.pair.right]
		if _, err := t.Special(spell(text)); err == nil {
			continue // files could not tell the two apart
		}
		id, known := ids[text]
		if !known {
			id = int32(len(t.tokens))
			ids[text] = id
			t.tokens = append(t.tokens, text)
		}
		t.merges = append(t.merges, top.pair)
		l.merge(top.pair, id)
	}
}

// add counts the pairs of a word once more, or once less; it notes those that are new to the word in changed.
func (l *learner) add(word, sign int, changed map[pair]bool) {
	w := l.words[word]
	for i := 1; i < len(w); i++ {
		p := pair{w[i-1], w[i]}
		l.count[p] += sign * l.times[word]
		if sign < 0 {
			continue
		}
		in := l.where[p]
		if in == nil {
			in = map[int]bool{}
			l.where[p] = in
		}
		if !in[word] {
			in[word] = true
			if changed != nil {
				changed[p] = true
			}
		}
	}
}

// merge replaces the pair by id in all words that have it.
func (l *learner) merge(p pair, id int32) {
	changed := map[pair]bool{}
	for word := range l.where[p] { // in any order: sums of integers
		l.add(word, -1, nil)
		w := l.words[word]
		n := 0
		for i := 0; i < len(w); i++ {
			if i+1 < len(w) && w[i] == p.left && w[i+1] == p.right {
				w[n] = id
				i++
			} else {
				w[n] = w[i]
			}
			n++
		}
		l.words[word] = w[:n]
		l.add(word, +1, changed)
	}
	delete(l.count, p)
	delete(l.where, p)
	for q := range changed {
		if n := l.count[q]; n > 0 {
			heap.Push(&l.queue, frequency{q, n})
		}
	}
}
