package kernel

// Ahead lists memory that will be read or written soon, for products to ask for while they run: a few cache lines a
// register tile, so that the processor is never busy with more of them than it can hold while it waits for others.
// The zero Ahead asks for nothing.
type Ahead struct {
	list     [32]segments
	n, first int // parts of list in use, and the first that is not done
	each     int // segments a tile
	tiles    int
	total    int
}

// segments are pieces of rows, 64 floats (4 cache lines) each. Assembly knows the layout.
type segments struct {
	from *float32
	ld   int // bytes from one to the next
	rows int
}

// Reset forgets what is left. The products up to the next Reset will have the given number of register tiles
// (MulAheadTiles).
func (a *Ahead) Reset(tiles int) { a.n, a.first, a.total, a.tiles, a.each = 0, 0, 0, max(tiles, 1), 1 }

// Add lists m[:rows][:cols]. What finds no room is left out.
func (a *Ahead) Add(m Mat, rows, cols int) {
	if !part(m, rows, cols) {
		return
	}
	for c := 0; c < cols && a.n < len(a.list); c += 64 {
		a.list[a.n] = segments{&m.Data[c], 4 * m.Row, rows}
		a.n++
		a.total += rows
	}
	a.each = (a.total + a.tiles - 1) / a.tiles
}

// MulAheadTiles is the number of register tiles of a product of m rows and n columns.
func MulAheadTiles(m, n int) int {
	h := aheadHeight()
	return (m + h - 1) / h * ((n + 31) / 32)
}

// MulAhead computes C = diag(f)·(A·B) for A [m, k], B [k, n], C [m, n] and one factor a row (nil: 1), with the bits of Mul
// and a multiplication, and asks for a part of next.
func MulAhead(next *Ahead, f []float32, m, n, k int, a, b, c Mat) {
	if f != nil {
		f = f[:max(m, 0)]
	}
	mulAhead(next, overwrite, f, m, n, k, &a, &b, &c)
}

// MulAddAhead computes C += A·B, as MulAhead.
func MulAddAhead(next *Ahead, m, n, k int, a, b, c Mat) {
	mulAhead(next, add, nil, m, n, k, &a, &b, &c)
}

func mulAhead(next *Ahead, mode int, f []float32, m, n, k int, a, b, c *Mat) {
	if m > 0 && k > 0 && n > 0 && n%32 == 0 && a.Col == 1 && m*n*k <= 1<<21 && level != levelGeneric {
		switch {
		case b.Col != 1 || c.Col != 1:
			panic("kernel: Mul wants contiguous columns of B and C")
		case !a.holds(m, k):
			tooSmall("A")
		case !b.holds(k, n):
			tooSmall("B")
		case !c.holds(m, n):
			tooSmall("C")
		}
		if counting.Load() {
			flops.Add(2 * int64(m) * int64(n) * int64(k))
		}
		mulAheadLevel(next, mode, f, m, n, k, a, b, c)
		return
	}
	mul(mode == add, nil, m, n, k, a, b, c, nil)
	if f != nil {
		ScaleRows(f, *c, n)
	}
}
