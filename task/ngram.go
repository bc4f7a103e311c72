package task

// A Predictor gives the probability of the next byte after a context.
type Predictor interface {
	Prob(context []byte, next byte) float64
}

// NGram is a byte model that interpolates all orders up to its own by Witten and Bell's rule:
//
//	p_k(b | c) = (n(c b) + t(c)·p_{k-1}(b | c')) / (n(c) + t(c)),  p_{-1} = 1/256
//
// n counts in the training text, t(c) is the number of different bytes that follow context c, and c'
// is c without its first byte; a context never seen leaves p_{k-1}. Witten and Bell 1991, IEEE
// Transactions on Information Theory 37(4), method C; interpolated as in Chen and Goodman 1998 §2.4.
type NGram struct {
	follows []counts // by order: context → how often followed, by how many different bytes
	grams   []counts // by order: context and next byte → how often
}

// MaxOrder is the highest order of an NGram: a context and its next byte are packed in a word.
const MaxOrder = 6

// NewNGram fits a model of the given order, at most MaxOrder, to text.
func NewNGram(text []byte, order int) *NGram {
	order = min(order, MaxOrder)
	m := &NGram{make([]counts, order+1), make([]counts, order+1)}
	for k := range order + 1 {
		key, mask := uint64(0), uint64(1)<<(8*(k+1))-1
		for i, b := range text {
			key = (key<<8 | uint64(b)) & mask
			if i < k {
				continue
			}
			n, _ := m.grams[k].at(key)
			total, kinds := m.follows[k].at(key >> 8)
			if *n == 0 {
				*kinds++
			}
			*n++
			*total++
		}
	}
	return m
}

// Order returns the order of the model.
func (m *NGram) Order() int { return len(m.grams) - 1 }

// Prob returns the probability of next after context, of which the last Order bytes count.
func (m *NGram) Prob(context []byte, next byte) float64 {
	p, key := 1.0/256, uint64(0)
	for k := 0; k <= m.Order() && k <= len(context); k++ {
		if k > 0 {
			key |= uint64(context[len(context)-k]) << (8 * (k - 1))
		}
		total, kinds := m.follows[k].get(key)
		if total == 0 {
			break // longer contexts are unseen too
		}
		n, _ := m.grams[k].get(key<<8 | uint64(next))
		p = (float64(n) + float64(kinds)*p) / (float64(total) + float64(kinds))
	}
	return p
}

// counts is a hash table from a word to two counts, with open addressing.
type counts struct {
	slots []slot
	used  int
}

type slot struct {
	key  uint64 // plus 1; 0 is empty
	a, b uint32
}

func (c *counts) find(key uint64) *slot {
	mask := uint64(len(c.slots) - 1)
	for h := hash(key) & mask; ; h = (h + 1) & mask {
		if s := &c.slots[h]; s.key == key+1 || s.key == 0 {
			return s
		}
	}
}

func hash(x uint64) uint64 { x *= 0x9e3779b97f4a7c15; return x ^ x>>29 }

func (c *counts) get(key uint64) (a, b uint32) {
	if len(c.slots) == 0 {
		return 0, 0
	}
	s := c.find(key)
	return s.a, s.b
}

// at returns the counts of key, new ones if need be, until the next call of at.
func (c *counts) at(key uint64) (a, b *uint32) {
	if 2*c.used >= len(c.slots) {
		old := c.slots
		c.slots = make([]slot, max(64, 2*len(old)))
		for _, s := range old {
			if s.key != 0 {
				*c.find(s.key - 1) = s
			}
		}
	}
	s := c.find(key)
	if s.key == 0 {
		s.key = key + 1
		c.used++
	}
	return &s.a, &s.b
}
