package harness

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"attnbench/attn"
	"attnbench/autograd"
	"attnbench/model"
	"attnbench/results"
)

// Approximation asks how far mechanisms that approximate full attention are from it, against what they keep: on Gaussian queries, keys and
// values, and on those of a trained model.
type Approximation struct {
	Mechs   []string
	Budgets []int // values of the option that Info.Budget names
	Lengths []int
	Case    Case // heads, widths, mask and batch of the Gaussian ones
	Samples int
	Seed    uint64 // of the first sample; each further one has the next

	Model  *model.LM // nil for Gaussian ones alone. Its attention should be full
	From   string    // what names say of the model
	Tokens []int32   // of which sample i takes its part

	hash string
	sets map[[2]int][]*attn.Call // calls of the model's layers by length and first token
}

// Budget is one mechanism at one budget.
type Budget struct {
	Spec, Name string // canonical spelling; the mechanism's without options
	Option     string // empty for a mechanism without a budget
	Value      int
}

// gaussian is what names say of the random inputs.
const gaussian = "gaussian"

// List returns every approximating mechanism at every budget that it takes. A value that it refuses is made one larger, as for an odd window, and left out
// when it refuses that too.
func (a *Approximation) List() ([]Budget, error) {
	var list []Budget
	for _, spec := range a.Mechs {
		m, err := newMechanism(spec)
		if err != nil {
			return nil, err
		}
		info := m.Info()
		if !info.Approximates {
			return nil, fmt.Errorf("%s: it approximates nothing: want mechanisms that approximate full attention", info.Name)
		}
		if info.Budget == "" {
			list = append(list, Budget{Spec: info.Name, Name: info.Name})
			continue
		}
		var refused error
		before := len(list)
		for _, v := range a.Budgets {
			at, err := attn.WithOption(spec, info.Budget, v)
			if err != nil {
				v++
				at, err = attn.WithOption(spec, info.Budget, v)
			}
			if err != nil {
				refused = err
				continue
			}
			b := Budget{Spec: at, Name: info.Name, Option: info.Budget, Value: v}
			if !slices.Contains(list, b) {
				list = append(list, b)
			}
		}
		if len(list) == before {
			return nil, cmp.Or(refused, fmt.Errorf("%s: no budgets: want values of its option %s", info.Name, info.Budget))
		}
	}
	return list, nil
}

// Name is that of a cell: Fidelity/mech=…/from=…/n=… and, of Gaussian inputs, the shape.
func (a *Approximation) Name(spec, from string, n int) string {
	name := fmt.Sprintf("Fidelity/mech=%s/from=%s/n=%d", spec, Word(from), n)
	c := a.Case
	if from == gaussian {
		c.Mech, c.N = spec, n
		for _, p := range c.parts()[2:] {
			name += "/" + p
		}
		return name
	}
	return name + fmt.Sprintf("/causal=%v", c.Causal)
}

// Sources returns where queries, keys and values are taken from.
func (a *Approximation) Sources() []string {
	if a.Model == nil {
		return []string{gaussian}
	}
	return []string{gaussian, a.From}
}

// Jobs returns the cells. A length at which there is only one part of the text has one sample.
func (a *Approximation) Jobs() ([]Job, error) {
	budgets, err := a.List()
	if err != nil {
		return nil, err
	}
	if a.Samples < 1 {
		return nil, fmt.Errorf("samples=%d: want at least 1", a.Samples)
	}
	a.sets = map[[2]int][]*attn.Call{}
	if a.Model != nil {
		a.hash = a.hashModel()
	}
	var jobs []Job
	for _, from := range a.Sources() {
		for _, n := range a.Lengths {
			if err := a.checkLength(from, n); err != nil {
				return nil, err
			}
			for _, b := range budgets {
				for i := range a.Samples {
					if i > 0 && from != gaussian && a.start(n, i) == a.start(n, i-1) {
						break
					}
					j, err := a.job(b, from, n, i)
					if err != nil {
						return nil, err
					}
					jobs = append(jobs, j)
				}
			}
		}
	}
	return jobs, nil
}

func (a *Approximation) checkLength(from string, n int) error {
	switch {
	case n < 1:
		return fmt.Errorf("length %d: want at least 1", n)
	case from != gaussian && n > a.Model.Config.MaxLen:
		return fmt.Errorf("length %d: want at most the model's context of %d", n, a.Model.Config.MaxLen)
	case from != gaussian && n > len(a.Tokens):
		return fmt.Errorf("length %d: want at most the text's %d tokens", n, len(a.Tokens))
	}
	return nil
}

func (a *Approximation) hashModel() string {
	h := sha256.New()
	fmt.Fprintf(h, "%+v\nsamples=%d\n", a.Model.Config, a.Samples)
	for _, p := range a.Model.Params() {
		binary.Write(h, binary.LittleEndian, p.Data)
	}
	binary.Write(h, binary.LittleEndian, a.Tokens)
	return fmt.Sprintf("%.8x", h.Sum(nil))
}

// start is the token at which sample i of n tokens begins: the samples lie evenly over the text.
func (a *Approximation) start(n, i int) int {
	if a.Samples == 1 {
		return 0
	}
	return i * (len(a.Tokens) - n) / (a.Samples - 1)
}

func (a *Approximation) job(b Budget, from string, n, i int) (Job, error) {
	m, err := newMechanism(b.Spec)
	if err != nil {
		return Job{}, err
	}
	info := m.Info()
	seed := a.Seed + uint64(i)
	config := append(Config(), caseConfig(&info, seed)...)
	if from != gaussian {
		config = append(config, results.Config{Key: "recipe", Value: a.hash})
	}
	name := a.Name(b.Spec, from, n)
	return Job{Key: results.Key(name, config...), Name: name, Work: float64(n) * float64(n), Run: func(ctx context.Context) (results.Record, error) {
		v, err := a.measure(ctx, m, from, n, i, seed)
		if err != nil {
			return results.Record{}, fmt.Errorf("%s: %w", name, err)
		}
		return results.Record{Name: name, Iters: 1, Config: config, Values: []results.Value{{Value: v, Unit: "full-err"}}}, nil
	}}, nil
}

// measure returns the error of one sample; of a model, the root mean square of its layers' errors.
func (a *Approximation) measure(ctx context.Context, m attn.Mechanism, from string, n, i int, seed uint64) (float64, error) {
	info := m.Info()
	if from == gaussian {
		c := a.Case
		c.Mech, c.N = info.Name, n
		_, s, err := c.open()
		if err != nil {
			return 0, err
		}
		return approximationError(m, newCall(&info, s, seed))
	}
	layers, err := a.layers(n, a.start(n, i))
	if err != nil {
		return 0, err
	}
	sum := 0.0
	for _, l := range layers {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		c, err := a.put(&info, l, seed)
		if err != nil {
			return 0, err
		}
		e, err := approximationError(m, c)
		if err != nil {
			return 0, err
		}
		sum += e * e
	}
	return math.Sqrt(sum / float64(len(layers))), nil
}

// layers returns the attention calls of the model's layers on n tokens from start on.
func (a *Approximation) layers(n, start int) ([]*attn.Call, error) {
	key := [2]int{n, start}
	if a.sets[key] == nil {
		t := autograd.NewTape(attn.NewWorkspace())
		t.NoGrad = true
		calls, err := a.Model.Calls(t, a.Tokens[start:start+n])
		if err != nil {
			return nil, err
		}
		a.sets[key] = calls
	}
	return a.sets[key], nil
}

// put returns a call of the mechanism with the queries, keys and values of l, and all else that the mechanism wants drawn or fresh. One that wants
// queries, keys or values of another size than the model has is an Unsupported.
func (a *Approximation) put(info *attn.Info, l *attn.Call, seed uint64) (*attn.Call, error) {
	s := l.Shape
	s.Mask = attn.Bidirectional
	if a.Case.Causal {
		s.Mask = attn.Causal
	}
	s.MaxLen = s.KeyLen
	c := newCall(info, s, seed)
	for i := range info.Inputs {
		in := &info.Inputs[i]
		name := in.Name
		if in.Tied != "" {
			name = in.Tied
		}
		v, known := map[string]attn.View{"q": l.Q, "k": l.K, "v": l.V}[name]
		if heads, width := in.Size(s); known && (heads != v.Heads || width != v.Dim) {
			return nil, unsupported("%s: input %s has %d heads of %d: want the model's %d of %d", info.Name, in.Name, heads, width, v.Heads, v.Dim)
		}
		switch {
		case !known:
		case in.Name == "q":
			c.Q = v
		case in.Name == "k":
			c.K = v
		case in.Name == "v":
			c.V = v
		}
	}
	return c, nil
}

// approximationError computes the call and compares it with full attention on its own q, k and v. A mechanism that keeps less
// only while it decodes takes in the first half as a prompt and decodes the rest, which alone is compared.
func approximationError(m attn.Mechanism, c *attn.Call) (float64, error) {
	info := m.Info()
	if info.Masks&c.Mask == 0 {
		return 0, unsupported("%s: mask is %v: want %v", info.Name, c.Mask, info.Masks)
	}
	if info.CheckShape != nil {
		if err := info.CheckShape(c.Shape); err != nil {
			return 0, unsupported("%s: %w", info.Name, err)
		}
	}
	c.Rope = nil // q and k are rotated, or stand for such
	ws, first := attn.NewWorkspace(), 0
	var err error
	if inc, ok := m.(attn.Incremental); ok && info.Inference && info.Decode != attn.DecodeAlways && c.Mask == attn.Causal && c.KeyLen > 1 {
		first = c.KeyLen / 2
		err = decodeAll(ws, inc, &info, c, first)
	} else {
		err = m.Forward(ws, c)
	}
	if err != nil {
		return 0, err
	}
	e, ok := fullErr(c, first)
	if !ok {
		return 0, unsupported("%s: its inputs are no queries, keys and values of full attention", info.Name)
	}
	return e, nil
}

// decodeAll computes the call by decoding: a prompt, and then token by token.
func decodeAll(ws *attn.Workspace, m attn.Incremental, info *attn.Info, c *attn.Call, prompt int) error {
	s, err := m.NewState(c.Shape)
	if err != nil {
		return err
	}
	for from, to := 0, prompt; from < c.KeyLen; from, to = to, to+1 {
		w := window(info, c, from, from, to)
		w.EndOfPrompt = from == 0
		if err := m.Extend(ws, s, w); err != nil {
			return err
		}
	}
	return nil
}
