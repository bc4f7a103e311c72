package tile

// OwnBlock is the pattern of a query's own block of so many keys, up to the query.
type OwnBlock int

// Next implements Pattern.
func (p OwnBlock) Next(t Tile, from int) Run {
	n := int(p)
	if t.Last() < 0 {
		return Run{}
	}
	first, last := max(t.First, 0)/n, t.Last()/n
	from = max(from, first*n)
	if first == last && t.First >= 0 && from <= t.First {
		return Run{from, t.First + 1, true}
	}
	return Run{from, t.Last() + 1, false}
}

// Sees implements Pattern.
func (p OwnBlock) Sees(t Tile, j int) uint32 {
	return Bits(j-t.First, (j/int(p)+1)*int(p)-t.First)
}

// Window is the pattern of the last so many keys, the query's own included, under the causal mask.
type Window int

// Next implements Pattern.
func (p Window) Next(t Tile, from int) Run {
	from = max(from, t.First-int(p)+1)
	all := t.Last() - int(p) + 1 // from here to t.First all queries see all keys
	switch {
	case from < all:
		return Run{from, min(all, t.Last()+1), false}
	case from <= t.First:
		return Run{from, t.First + 1, true}
	}
	return Run{from, t.Last() + 1, false}
}

// Sees implements Pattern.
func (p Window) Sees(t Tile, j int) uint32 { return Bits(j-t.First, j-t.First+int(p)) }

// Complete is the pattern of queries over summaries of blocks of so many tokens under the causal mask: a query sees those of the
// blocks that have ended, its own token included. Query 0 of the sequence stands at position Pos0.
type Complete int

// ended returns how many blocks have ended for the given query.
func (p Complete) ended(t Tile, query int) int { return max(0, t.Pos0+query+1) / int(p) }

// Next implements Pattern.
func (p Complete) Next(t Tile, from int) Run {
	all, some := min(t.Keys, p.ended(t, t.Query)), min(t.Keys, p.ended(t, t.Query+t.Rows-1))
	if from < all {
		return Run{from, all, true}
	}
	return Run{from, some, false}
}

// Sees implements Pattern.
func (p Complete) Sees(t Tile, j int) uint32 {
	return Bits((j+1)*int(p)-1-t.Pos0-t.Query, Lanes)
}
