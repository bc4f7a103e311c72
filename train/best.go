package train

import (
	"context"
	"slices"

	"attnbench/task"
)

// best is the model at the validation that was the best so far by the task's first metric.
type best struct {
	metric task.Metric
	live   []Tensor // the model's parameters and buffers
	kept   []Tensor // copies of them
}

func newBest(r *run) *best {
	b := new(best)
	if info := r.Task.Info(); len(info.Metrics) > 0 {
		b.metric = info.Metrics[0]
	}
	for _, p := range r.opt.params {
		b.live = append(b.live, Tensor{Name: p.Name, Shape: p.Shape, Data: p.Data})
	}
	if m, ok := r.Model.(updater); ok {
		for _, x := range m.Buffers() {
			b.live = append(b.live, Tensor{Name: x.Name, Shape: []int{len(x.Data)}, Data: x.Data})
		}
	}
	for _, x := range b.live {
		b.kept = append(b.kept, Tensor{Name: "best/" + x.Name, Shape: x.Shape, Data: slices.Clone(x.Data)})
	}
	return b
}

// step returns the step of the best of the validations, of equal ones the first, or 0.
func (b *best) step(valid []Validation) (step int) {
	var top float64
	for _, x := range valid {
		v, ok := task.Find(x.Values, b.metric.Unit)
		if ok && (step == 0 || (v.Value < top) == (b.metric.Better == "lower") && v.Value != top) {
			step, top = x.Step, v.Value
		}
	}
	return step
}

// see keeps the model if the last validation is better than any before.
func (b *best) see(r *Result) {
	if b.step(r.Valid) == r.Steps {
		for i, x := range b.live {
			copy(b.kept[i].Data, x.Data)
		}
	}
}

// test scores the kept model on the test set and leaves the last one in its place.
func (b *best) test(ctx context.Context, r *run) ([]task.Value, error) {
	r.BestStep = b.step(r.Valid)
	switch {
	case r.BestStep == 0:
		return nil, nil
	case r.BestStep == r.Result.Steps && r.mean == nil:
		return r.Metrics, nil
	}
	b.swap()
	defer b.swap()
	return Evaluate(ctx, r.Workspace, r.Model, r.Task, task.Test, r.EvalRows())
}

func (b *best) swap() {
	for i, x := range b.live {
		y := b.kept[i].Data
		for j := range y {
			x.Data[j], y[j] = y[j], x.Data[j]
		}
	}
}
