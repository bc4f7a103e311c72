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

// TileRows is the number of rows of a whole register tile of MulAhead.
func TileRows() int { return aheadHeight() }

// MulAheadTiles is the number of register tiles of a product of m rows and n columns.
func MulAheadTiles(m, n int) int {
	h := aheadHeight()
	return (m + h - 1) / h * ((n + 31) / 32)
}

// MulAhead computes C = diag(f)·(A·B) for A [m, k], B [k, n], C [m, n] and one factor a row (nil: 1), with the bits of Mul
// and a multiplication, and asks for a part of next.
func MulAhead(next *Ahead, f []float32, m, n, k int, a, b, c Mat) {
	mode := overwrite
	if f != nil {
		f, mode = f[:max(m, 0)], scaled
	}
	done := mulNow(next, f, nil, mode, m, n, k, &a, &b, &c)
	if done >= n {
		return
	}
	b, c = b.From(0, done), c.From(0, done)
	mul(false, nil, m, n-done, k, &a, &b, &c, nil)
	if f != nil {
		ScaleRows(f, c, n-done)
	}
}

// AdvanceAhead computes C = diag(f)·C + (diag(g)·C + A·B), for f and g what Decay takes or both nil: C += A·B. The sum A·B is formed
// by itself, from 0: so a long chain of steps rounds once a step in the size of C, not once a term.
func AdvanceAhead(next *Ahead, f, g []float32, m, n, k int, a, b, c Mat) {
	if m <= 0 || n <= 0 {
		return
	}
	mode := add
	if f != nil {
		f, g, mode = f[:m], g[:m], advance
	}
	if done := mulNow(next, f, g, mode, m, n, k, &a, &b, &c); done < n {
		advanceSlowly(f, g, m, n-done, k, a, b.From(0, done), c.From(0, done))
	}
}

// advanceSlowly is AdvanceAhead where there is no assembly for it.
func advanceSlowly(f, g []float32, m, n, k int, a, b, c Mat) {
	var sum [2048]float32
	cols := min(n, len(sum))
	rows := len(sum) / cols
	for i := 0; i < m; i += rows {
		r := min(rows, m-i)
		for j := 0; j < n; j += cols {
			w := min(cols, n-j)
			ai, bj, s := a.From(i, 0), b.From(0, j), Rows(sum[:], w)
			mul(false, nil, r, w, k, &ai, &bj, &s, nil)
			for y := range r {
				to, from := c.Data[(i+y)*c.Row+j:][:w], sum[y*w:][:w]
				if f == nil {
					Add(to, from)
					continue
				}
				Axpy(g[i+y], to, from)
				Axpy(f[i+y], to, from)
				copy(to, from)
			}
		}
	}
}

// What becomes of C beside overwrite and add, which is here C += (A·B).
const (
	advance = 2 // C = diag(f)·C + (diag(g)·C + A·B)
	scaled  = 3 // C = diag(f)·(A·B)
)

// maxAhead bounds the multiply-adds of one call into assembly, which cannot be preempted.
const maxAhead = 1 << 21

// mulNow computes the columns of a product that there is assembly for, and returns their number.
func mulNow(next *Ahead, f, g []float32, mode, m, n, k int, a, b, c *Mat) int {
	n = n / 32 * 32
	if level == levelGeneric || m <= 0 || n <= 0 || k <= 0 || a.Col != 1 || n*k > maxAhead {
		return 0
	}
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
		count(m, n, k, m*k+k*n)
	}
	rows := min(m, maxAhead/(n*k))
	for i := 0; i < m; i += rows {
		r, ai, ci := min(rows, m-i), a.From(i, 0), c.From(i, 0)
		if mode == scaled || mode == advance {
			mulAheadLevel(next, mode, f[i:], g[min(i, len(g)):], r, n, k, &ai, b, &ci)
		} else {
			mulAheadLevel(next, mode, nil, nil, r, n, k, &ai, b, &ci)
		}
	}
	return n
}
