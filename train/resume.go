package train

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"attnbench/model"
)

// progress is what a checkpoint keeps of a run beside its tensors.
type progress struct {
	Steps, Updates, Skipped int
	Valid                   []Validation
	Tokens                  int64
	Seconds, EvalSeconds    float64
	Reached                 bool
}

// identity is what must be equal for a checkpoint to be resumed.
func (r *run) identity() string {
	info := r.Task.Info()
	var b strings.Builder
	canonical(&b, "", r.Settings)
	fmt.Fprintf(&b, "task=%s\ndata=%s\nseed=%d\nrecipe=%s\nvariant=%s\nskip=%v\n", info.Name, info.Data, r.Seed, r.Recipe, r.Variant, r.SkipNonFinite)
	return b.String()
}

// kept returns what a run keeps of parameter i beside its values.
func (r *run) kept(i int) []Tensor {
	p := r.opt.params[i]
	list := []Tensor{{Name: "m/" + p.Name, Shape: p.Shape, Data: r.opt.m[i]}, {Name: "v/" + p.Name, Shape: p.Shape, Data: r.opt.v[i]}}
	if r.mean != nil {
		list = append(list, Tensor{Name: "mean/" + p.Name, Shape: p.Shape, Data: r.mean[i]})
	}
	for i := range list {
		if s := &list[i]; len(s.Data) != len(p.Data) {
			s.Shape = []int{len(s.Data)}
		}
	}
	return list
}

func (r *run) save() error {
	if r.Checkpoint == "" {
		return nil
	}
	state, err := json.Marshal(progress{
		r.Result.Steps, r.opt.step, r.Skipped, r.Valid, r.Tokens, r.Seconds, r.EvalSeconds, r.Reached,
	})
	if err != nil {
		return err
	}
	c := &Checkpoint{Meta: map[string]string{"run": r.identity(), "progress": string(state)}}
	if m, ok := r.Model.(interface{ Spec() model.Config }); ok {
		spec, err := json.Marshal(m.Spec())
		if err != nil {
			return err
		}
		c.Meta["model"] = string(spec)
	}
	for i, p := range r.opt.params {
		c.Tensors = append(c.Tensors, Tensor{Name: p.Name, Shape: p.Shape, Data: p.Data})
		c.Tensors = append(c.Tensors, r.kept(i)...)
	}
	if m, ok := r.Model.(updater); ok {
		for _, b := range m.Buffers() {
			c.Tensors = append(c.Tensors, Tensor{Name: b.Name, Shape: []int{len(b.Data)}, Data: b.Data})
		}
	}
	if r.best != nil {
		c.Tensors = append(c.Tensors, r.best.kept...)
	}
	c.Tensors = append(c.Tensors, Tensor{Name: "losses", Shape: []int{len(r.Losses)}, Data: r.Losses})
	return WriteCheckpoint(r.Checkpoint, c)
}

// resume takes up the run that the checkpoint holds. On error nothing has changed.
func (r *run) resume() error {
	c, err := ReadCheckpoint(r.Checkpoint)
	if err != nil {
		return err
	}
	wrap := func(err error) error { return fmt.Errorf("checkpoint %s: %w", r.Checkpoint, err) }
	if got, want := c.Meta["run"], r.identity(); got != want {
		return wrap(fmt.Errorf("of another run: %s: want another file, or the same settings", difference(got, want)))
	}
	var state progress
	if err := json.Unmarshal([]byte(c.Meta["progress"]), &state); err != nil {
		return wrap(err)
	}
	losses, err := c.Tensor("losses", []int{state.Steps})
	if err != nil {
		return wrap(err)
	}
	var from, to [][]float32
	want := func(name string, shape []int, data []float32) error {
		x, err := c.Tensor(name, shape)
		from, to = append(from, x), append(to, data)
		return err
	}
	for i, p := range r.opt.params {
		if err := want(p.Name, p.Shape, p.Data); err != nil {
			return wrap(err)
		}
		for _, s := range r.kept(i) {
			if err := want(s.Name, s.Shape, s.Data); err != nil {
				return wrap(err)
			}
		}
	}
	if m, ok := r.Model.(updater); ok {
		for _, b := range m.Buffers() {
			if err := want(b.Name, []int{len(b.Data)}, b.Data); err != nil {
				return wrap(err)
			}
		}
	}
	if r.best != nil {
		for _, x := range r.best.kept {
			if err := want(x.Name, x.Shape, x.Data); err != nil {
				return wrap(err)
			}
		}
	}
	for i := range from {
		copy(to[i], from[i])
	}
	r.opt.step = state.Updates
	r.Result = Result{
		Steps: state.Steps, Losses: losses, Valid: state.Valid, Tokens: state.Tokens, Seconds: state.Seconds,
		EvalSeconds: state.EvalSeconds, Skipped: state.Skipped, Reached: state.Reached,
	}
	os.Remove(r.Checkpoint + ".tmp") // what a crash may have left
	return nil
}

// difference names the first line in which two identities differ.
func difference(got, want string) string {
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("it has %s, this run %s", a[i], b[i])
		}
	}
	return "it has other settings"
}
