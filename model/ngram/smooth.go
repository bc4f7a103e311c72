package ngram

// Smoothing is how lower orders are mixed in.
type Smoothing uint8

const (
	// KneserNey is the interpolated modified form of Chen and Goodman (1998, Harvard TR-10-98, §3): three discounts for each order, and counts
	// of left neighbours in the place of counts below the highest order. With c the count (or number of different tokens to the left of
	// a gram), D the discount of its size, and N_i(h·) how many tokens have count i after h:
	//
	//	p(w | h) = (c(h w) - D(c(h w))) / Σ_v c(h v) + γ(h)·p(w | h')
	//	γ(h)     = (D_1·N_1(h·) + D_2·N_2(h·) + D_3+·N_3+(h·)) / Σ_v c(h v)
	//
	// Grams that start with begin keep their counts, having no neighbour to the left (as in SRILM and KenLM).
	KneserNey Smoothing = iota

	// WittenBell is method C of Witten and Bell (1991, IEEE Transactions on Information Theory 37(4)), interpolated as in Chen and
	// Goodman §2.4. With c(h) how often context h was followed and t(h) by how many different tokens:
	//
	//	p(w | h) = (c(h w) + t(h)·p(w | h')) / (c(h) + t(h))
	WittenBell
)

// fallback are the discounts of an order whose counts of counts give none, as in KenLM: of a small text, or of bytes, all of which have
// many neighbours.
var fallback = [3]float64{0.5, 1, 1.5}

// discounts returns those of counts 1, 2, and 3 or more from how many grams have count 1, 2, 3 and 4 (Chen and Goodman 1998, eq. 26):
//
//	Y = n1/(n1+2·n2),  D_1 = 1 - 2Y·n2/n1,  D_2 = 2 - 3Y·n3/n2,  D_3+ = 3 - 4Y·n4/n3
func discounts(n [5]int) [3]float64 {
	if n[1] == 0 || n[2] == 0 || n[3] == 0 {
		return fallback
	}
	y := float64(n[1]) / float64(n[1]+2*n[2])
	var d [3]float64
	for i := range d {
		c := float64(i + 1)
		d[i] = c - (c+1)*y*float64(n[i+2])/float64(n[i+1])
		if !(d[i] > 0 && d[i] <= c) {
			return fallback
		}
	}
	return d
}

// smooth turns the counts of the nodes into probabilities and weights.
func (m *Model) smooth(kind Smoothing, count []int32) {
	m.prob, m.weight = make([]float64, len(m.word)), make([]float64, len(m.word))
	tokens := m.vocab
	if m.begin != None {
		tokens--
	}
	lo, hi := int32(0), int32(1) // the contexts
	for k := range m.order {
		var n [5]int
		for c := m.first[lo]; c < m.first[hi]; c++ {
			if i := count[c]; i < 5 {
				n[i]++
			}
		}
		var d [3]float64 // none are Witten and Bell's
		if kind == KneserNey {
			d = discounts(n)
			m.Discounts = append(m.Discounts, d)
		}
		for h := lo; h < hi; h++ {
			total, kept := 0.0, 0.0
			for c := m.first[h]; c < m.first[h+1]; c++ {
				if i := count[c]; i > 0 {
					total += float64(i)
					kept += d[min(i, 3)-1]
					if kind == WittenBell {
						total++
						kept++
					}
				}
			}
			gamma := 1.0 // of a context that nothing was seen after
			if total > 0 {
				gamma = kept / total
			}
			m.weight[h] = gamma
			for c := m.first[h]; c < m.first[h+1]; c++ {
				lower := 1 / float64(tokens)
				if k > 0 {
					lower = m.prob[m.link[c]]
				}
				m.prob[c] = gamma * lower
				if i := count[c]; i > 0 {
					m.prob[c] += (float64(i) - d[min(i, 3)-1]) / total
				}
			}
		}
		lo, hi = m.first[lo], m.first[hi]
	}
	for c := lo; c < hi; c++ {
		m.weight[c] = 1 // of the longest grams, which are no contexts
	}
	if m.begin != None {
		m.prob[1+m.begin] = 0
	}
}
