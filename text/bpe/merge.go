package bpe

// merger encodes words; its memory is used again.
type merger struct {
	token      []int32 // by byte of the word; -1 where the byte was merged into one before it
	next, prev []int32
	queue      queue
}

// candidate is a pair of neighbours that may merge, the left one at byte at.
type candidate struct {
	rank, at int32
	pair     pair
}

// queue is a binary heap: the lowest rank first, of equals the leftmost.
type queue []candidate

func (q queue) less(i, j int) bool {
	return q[i].rank < q[j].rank || q[i].rank == q[j].rank && q[i].at < q[j].at
}

func (q *queue) push(c candidate) {
	h := append(*q, c)
	*q = h
	for i := len(h) - 1; i > 0; {
		up := (i - 1) / 2
		if !h.less(i, up) {
			break
		}
		h[i], h[up] = h[up], h[i]
		i = up
	}
}

func (q *queue) pop() candidate {
	h := *q
	top, last := h[0], len(h)-1
	h[0] = h[last]
	h = h[:last]
	*q = h
	for i := 0; ; {
		down := 2*i + 1
		if down >= len(h) {
			return top
		}
		if down+1 < len(h) && h.less(down+1, down) {
			down++
		}
		if !h.less(down, i) {
			return top
		}
		h[i], h[down] = h[down], h[i]
		i = down
	}
}

// append merges the bytes of word as long as a rule applies, the lowest rank first, in time n·log n.
func (m *merger) append(dst []int32, t *Tokenizer, word string) []int32 {
	n := int32(len(word))
	m.token, m.next, m.prev, m.queue = m.token[:0], m.next[:0], m.prev[:0], m.queue[:0]
	for i := range n {
		m.token, m.next, m.prev = append(m.token, t.bytes[word[i]]), append(m.next, i+1), append(m.prev, i-1)
	}
	for i := range n - 1 {
		m.offer(t, i, i+1)
	}
	for len(m.queue) > 0 {
		c := m.queue.pop()
		right := m.next[c.at]
		if m.token[c.at] != c.pair.left || right >= n || m.token[right] != c.pair.right {
			continue // one of the two has merged with another since
		}
		m.token[c.at], m.token[right] = t.rules[c.pair].token, -1
		m.next[c.at] = m.next[right]
		if after := m.next[c.at]; after < n {
			m.prev[after] = c.at
			m.offer(t, c.at, after)
		}
		if before := m.prev[c.at]; before >= 0 {
			m.offer(t, before, c.at)
		}
	}
	for i := int32(0); i < n; i = m.next[i] {
		dst = append(dst, m.token[i])
	}
	return dst
}

func (m *merger) offer(t *Tokenizer, left, right int32) {
	p := pair{m.token[left], m.token[right]}
	if r, ok := t.rules[p]; ok {
		m.queue.push(candidate{r.rank, left, p})
	}
}
