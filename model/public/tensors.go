package public

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"attnbench/autograd"
	"attnbench/safetensors"
)

// tensor is one tensor of a file and where its elements lie in a model's parameters.
type tensor struct {
	name  string
	shape []int
	parts []part
}

// part is a block of a file's tensor and of a parameter, both taken as matrices of their last dimension; a vector is one row.
type part struct {
	param        string
	row, col     int  // of the block in the file
	rows, cols   int  // of the block in the file
	toRow, toCol int  // of the block in the parameter
	turned       bool // the parameter holds the transpose
}

// plan collects the tensors of an architecture.
type plan struct{ list []tensor }

func (p *plan) add(name string, shape []int, parts ...part) {
	p.list = append(p.list, tensor{name, shape, parts})
}

// vector is a gain or a bias.
func (p *plan) vector(name, param string, n int) {
	p.add(name, []int{n}, part{param: param, rows: 1, cols: n})
}

// same is a matrix that lies in the file as in the model.
func (p *plan) same(name, param string, rows, cols int) {
	p.add(name, []int{rows, cols}, part{param: param, rows: rows, cols: cols})
}

// linear is a projection, in the file [out, in].
func (p *plan) linear(name, param string, in, out int) {
	p.add(name, []int{out, in}, part{param: param, rows: out, cols: in, turned: true})
}

// naming says which names of a file stand for which tensor.
type naming struct {
	rename *strings.Replacer // of spellings of older files; nil for none
	prefix string            // that some files have before all names and others do not
	unused []string          // endings of names whose tensors no model needs
	twins  map[string]string // tensors that must equal another, to the bit
}

// canonical returns the name that the architecture's tensors go by.
func (n *naming) canonical(name string) string {
	name = strings.TrimPrefix(name, n.prefix)
	if n.rename != nil {
		name = n.rename.Replace(name)
	}
	return name
}

// match checks that the source has the planned tensors and no others, and returns their names in the source.
func match(src source, list []tensor, n naming) (map[string]string, error) {
	want := map[string]bool{}
	for i := range list {
		want[list[i].name] = true
	}
	names, shapes := map[string]string{}, map[string][]int{}
	var twins []string
	for _, t := range src.list() {
		name := n.canonical(t.Name)
		twin := n.twins[name] != "" && !want[name]
		if !want[name] && !twin {
			if slices.ContainsFunc(n.unused, func(end string) bool { return strings.HasSuffix(name, end) }) {
				continue
			}
			return nil, fmt.Errorf("tensor %s: the model has no place for it: want only those of its config.json", t.Name)
		}
		if old, twice := names[name]; twice {
			return nil, fmt.Errorf("tensors %s and %s: want one of them", old, t.Name)
		}
		names[name], shapes[name] = t.Name, t.Shape
		if twin {
			twins = append(twins, name)
		}
	}
	for _, t := range list {
		shape, ok := shapes[t.name]
		if !ok {
			return nil, fmt.Errorf("tensor %s: missing: want one of shape %v", t.name, t.shape)
		}
		if !slices.Equal(shape, t.shape) {
			return nil, fmt.Errorf("tensor %s: shape %v: want %v", names[t.name], shape, t.shape)
		}
	}
	for _, name := range twins {
		if of := n.twins[name]; !slices.Equal(shapes[name], shapes[of]) {
			return nil, fmt.Errorf("tensor %s: shape %v: want %v, that of %s, to which it is tied", names[name], shapes[name], shapes[of], names[of])
		}
		if err := compare(src, names[name], names[n.twins[name]], elements(shapes[name])); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// compare wants two tensors of n elements to be equal to the bit.
func compare(src source, twin, of string, n int) error {
	a, b := make([]float32, n), make([]float32, n)
	if err := src.Floats(twin, a); err != nil {
		return err
	}
	if err := src.Floats(of, b); err != nil {
		return err
	}
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) {
			return fmt.Errorf("tensor %s: it differs from %s, to which it is tied: want the two equal", twin, of)
		}
	}
	return nil
}

func elements(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

// fill copies the planned tensors, names in the source, into the parameters, and wants every element of these to be filled.
func fill(src source, list []tensor, names map[string]string, params []*autograd.Param) error {
	left, err := places(list, params)
	if err != nil {
		return err
	}
	var buf []float32
	for _, t := range list {
		buf = slices.Grow(buf[:0], elements(t.shape))[:elements(t.shape)]
		if err := src.Floats(names[t.name], buf); err != nil {
			return err
		}
		for i := range t.parts {
			t.parts[i].move(buf, t.shape, left[t.parts[i].param], true)
		}
	}
	return nil
}

// gather is the way back: the planned tensors from the parameters.
func gather(list []tensor, params []*autograd.Param) ([]safetensors.Tensor, error) {
	from, err := places(list, params)
	if err != nil {
		return nil, err
	}
	var out []safetensors.Tensor
	for _, t := range list {
		x := safetensors.Tensor{Name: t.name, Shape: t.shape, Data: make([]float32, elements(t.shape))}
		for i := range t.parts {
			t.parts[i].move(x.Data, t.shape, from[t.parts[i].param], false)
		}
		out = append(out, x)
	}
	return out, nil
}

// places returns the parameters by name, after it has checked that the tensors cover each of them.
func places(list []tensor, params []*autograd.Param) (map[string]*autograd.Param, error) {
	covered := map[string]int{}
	for _, t := range list {
		for _, p := range t.parts {
			covered[p.param] += p.rows * p.cols
		}
	}
	byName := map[string]*autograd.Param{}
	for _, p := range params {
		if covered[p.Name] != len(p.Data) {
			return nil, fmt.Errorf("the model's tensor %s of shape %v: a checkpoint has no place for it: want a mechanism that learns only what q, k, v and the output need",
				p.Name, p.Shape)
		}
		byName[p.Name] = p
		delete(covered, p.Name)
	}
	for name := range covered {
		return nil, fmt.Errorf("tensor %s: the model has none: want a mechanism that learns all that q, k, v and the output need", name)
	}
	return byName, nil
}

// move copies the part's elements between a file's tensor and a parameter.
func (p *part) move(file []float32, shape []int, to *autograd.Param, load bool) {
	across, wide := shape[len(shape)-1], to.Shape[len(to.Shape)-1]
	for r := range p.rows {
		f := file[(p.row+r)*across+p.col:][:p.cols]
		at, step := (p.toRow+r)*wide+p.toCol, 1
		if p.turned {
			at, step = p.toRow*wide+p.toCol+r, wide
		}
		for c := range f {
			if load {
				to.Data[at+c*step] = f[c]
			} else {
				f[c] = to.Data[at+c*step]
			}
		}
	}
}
