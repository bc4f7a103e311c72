package autograd

import (
	"attnbench/attn"
	"attnbench/internal/kernel"
)

// Blocks of a dense product: a task computes blockM × blockN of the result, in steps of blockK, from panels of B
// that are kernel.Lanes wide and lie without gaps.
const (
	blockM = 72 // a multiple of the register tiles' 6 and 8 rows
	blockN = 4 * kernel.Lanes
	blockK = 128 // a panel of B is 16 KiB: half of the nearest cache
)

// product is C (+)= A·B for A [m, k], B [k, n], C [m, n], and what follows while a block is in cache.
type product struct {
	add     bool
	m, n, k int
	a, b, c kernel.Mat
	panels  []float32 // B packed; nil when B is used where it lies
	strips  []float32 // A packed, when it is the transpose of rows: blockM columns of those rows each
	bias    []float32 // added to every row of C
	act     Activation
	out     kernel.Mat // act(C), when act is set; may be C itself
}

// multiply runs p in parallel. Each element of C is summed in the order of k, whatever the number of workers.
func (t *Tape) multiply(p product) {
	if p.m == 0 || p.n == 0 {
		return
	}
	mark := t.scratchMark()
	defer t.scratchRelease(mark)
	ws := t.ws
	packed := p.m >= fewRows || p.b.Col != 1 && !p.dots()
	if packed {
		p.panels = t.scratch(p.k * ((p.n + kernel.Lanes - 1) / kernel.Lanes * kernel.Lanes))
	}
	strips := p.a.Row == 1 && p.a.Col > blockM && p.m >= fewRows // far apart in k: hard on a cache's sets
	if strips {
		p.strips = t.scratch((p.m + blockM - 1) / blockM * kernel.PackedFloats(blockM, p.k))
	}
	if t.dry != nil {
		t.dry.flops += 2 * int64(p.m) * int64(p.n) * int64(p.k)
		return
	}
	if packed {
		tasks := (p.n + kernel.Lanes - 1) / kernel.Lanes
		attn.Parallel(ws, tasks, 0, p, func(_ *attn.Scratch, p *product, task int) { p.pack(task) })
	}
	if strips {
		attn.Parallel(ws, (p.m+blockM-1)/blockM, 0, p, func(_ *attn.Scratch, p *product, task int) { p.packStrip(task) })
	}
	tasks := (p.m + blockM - 1) / blockM * ((p.n + blockN - 1) / blockN)
	attn.Parallel(ws, tasks, 0, p, func(_ *attn.Scratch, p *product, task int) { p.block(task) })
}

// fewRows is below how many rows B is not packed: a decoding step reads it once as it lies.
const fewRows = 8

// dots reports whether C's elements are dot products of rows as they lie: B is the transpose of rows.
func (p *product) dots() bool { return p.b.Row == 1 && p.a.Col == 1 && !p.add }

// panel returns the columns from Lanes·i on of B as a matrix without gaps, and their number.
func (p *product) panel(i int) (kernel.Mat, int) {
	j := i * kernel.Lanes
	w := min(kernel.Lanes, p.n-j)
	if p.panels == nil {
		return p.b.From(0, j), w
	}
	return kernel.Rows(p.panels[j*p.k:(j+kernel.Lanes)*p.k], kernel.Lanes), w
}

func (p *product) pack(i int) {
	j := i * kernel.Lanes
	dst, w := p.panel(i)
	if p.k == 0 {
		return
	}
	if p.b.Row == 1 && p.b.Col != 1 { // B is the transpose of rows
		kernel.Pack(dst.Data, p.b.From(0, j).T(), w, p.k, 1)
		return
	}
	if p.b.Col == 1 {
		kernel.Copy(dst, p.b.From(0, j), p.k, w)
		return
	}
	for r := range p.k {
		src := p.b.Data[r*p.b.Row+j*p.b.Col:]
		d := dst.Data[r*kernel.Lanes:][:w]
		for c := range d {
			d[c] = src[c*p.b.Col]
		}
	}
}

func (p *product) packStrip(i int) { p.strip(i, true) }

// strip returns rows from blockM·i on of A, packed, after packing them if asked.
func (p *product) strip(i int, pack bool) kernel.Packed {
	n := kernel.PackedFloats(blockM, p.k)
	dst, m := p.strips[i*n:][:n], min(blockM, p.m-i*blockM)
	if pack {
		return kernel.PackColumns(dst, m, p.k, p.a.From(i*blockM, 0))
	}
	return kernel.AsPacked(dst, m, p.k)
}

func (p *product) block(task int) {
	across := (p.n + blockN - 1) / blockN
	i0, j0 := task/across*blockM, task%across*blockN
	m, j1 := min(blockM, p.m-i0), min(j0+blockN, p.n)
	if p.panels == nil && p.b.Col != 1 {
		for i := i0; i < i0+m; i++ {
			row := p.c.Data[i*p.c.Row+j0 : i*p.c.Row+j1]
			kernel.Dots(row, p.a.From(i, 0).Data[:p.k], p.b.From(0, j0).T(), len(row))
		}
		p.finish(i0, j0, m, j1)
		return
	}
	left := p.a.From(i0, 0)
	var strip kernel.Packed
	if p.strips != nil {
		strip = p.strip(i0/blockM, false)
	}
	for k0 := 0; k0 == 0 || k0 < p.k; k0 += blockK {
		k := min(blockK, p.k-k0)
		for j := j0; j < j1; j += kernel.Lanes {
			b, w := p.panel(j / kernel.Lanes)
			a, b, c := left.From(0, k0), b.From(k0, 0), p.c.From(i0, j)
			add := p.add || k0 > 0
			switch {
			case p.strips != nil && add:
				kernel.MulAddPacked(w, k, strip.From(k0), b, c)
			case p.strips != nil:
				kernel.MulPacked(w, k, strip.From(k0), b, c)
			case add:
				kernel.MulAdd(m, w, k, a, b, c)
			default:
				kernel.Mul(m, w, k, a, b, c)
			}
		}
	}
	p.finish(i0, j0, m, j1)
}

// finish is what follows a block of the product: rows i0 to i0+m, columns j0 to j1.
func (p *product) finish(i0, j0, m, j1 int) {
	if p.bias == nil && p.act == Identity {
		return
	}
	for i := i0; i < i0+m; i++ {
		c := p.c.Data[i*p.c.Row+j0 : i*p.c.Row+j1]
		if p.bias != nil {
			kernel.Add(c, p.bias[j0:j1])
		}
		if p.act != Identity {
			apply(p.act, p.out.Data[i*p.out.Row+j0:i*p.out.Row+j1], c)
		}
	}
}
