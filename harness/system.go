package harness

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"attnbench/results"
	"attnbench/system"
	"attnbench/task"
)

// SystemJob returns the cell of training a system once. The record's name says task, mechanism and steps; seed and recipe
// belong to its key.
func SystemJob(s system.System, f system.Fit) Job {
	info := s.Info()
	if f.Steps == 0 {
		f.Steps = info.Steps
	}
	knowMetrics(task.Info{Metrics: info.Metrics})
	name := fmt.Sprintf("%v/task=%s/mech=%s/steps=%d", Accuracy, info.Name, f.Mech, f.Steps)
	config := append(Config(),
		results.Config{Key: "recipe", Value: fmt.Sprintf("%.8x", sha256.Sum256([]byte(info.Recipe)))},
		results.Config{Key: "seed", Value: fmt.Sprint(f.Seed)})
	return Job{
		Key: results.Key(name, config...), Name: name, Work: float64(f.Steps),
		Run: func(ctx context.Context) (results.Record, error) {
			r, err := s.Fit(ctx, f)
			if err != nil {
				return results.Record{}, fmt.Errorf("%s: %w", name, err)
			}
			if r.Steps == 0 {
				return results.Record{}, errors.New("nothing was trained: want at least one step")
			}
			var values []results.Value
			for _, v := range r.Values {
				values = append(values, results.Value{Value: v.Value, Unit: v.Unit})
			}
			values = append(values,
				results.Value{Value: float64(r.Params), Unit: "params"},
				results.Value{Value: float64(r.Steps), Unit: "steps"},
				results.Value{Value: r.Seconds / float64(r.Steps), Unit: "sec/step"},
				results.Value{Value: r.Seconds, Unit: "sec/op"})
			return results.Record{Name: name, Iters: 1, Config: config, Values: values}, nil
		},
	}
}
