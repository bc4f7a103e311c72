package train

import (
	"context"
	"errors"
	"path/filepath"
	"reflect"
	"testing"

	"attnbench/attn"
	"attnbench/task"
)

// TestBestStep: the model of the best validation is scored as a run that ended there would be, also by a run that was stopped and
// went on, and the last model stays in its place.
func TestBestStep(t *testing.T) {
	start := func(steps int) Config {
		c := config(t)
		c.Settings.Rate, c.FinalRate, c.Warmup, c.Schedule, c.Settings.Steps = 0.3, 0.3, 0, "constant", steps
		return c
	}
	long := start(50)
	whole := mustRun(t, long)
	if whole.BestStep == 0 || whole.BestStep == 50 {
		t.Fatalf("the best step is %d of 50: want one before the last, which this test is about; %v", whole.BestStep, whole.Valid)
	}
	for _, v := range whole.Valid {
		if v.Step < whole.BestStep && v.Values[0].Value <= whole.Valid[whole.BestStep/10-1].Values[0].Value || v.Values[0].Value < whole.Valid[whole.BestStep/10-1].Values[0].Value {
			t.Errorf("step %d is better than the best, %d: %v", v.Step, whole.BestStep, whole.Valid)
		}
	}
	if short := mustRun(t, start(whole.BestStep)); !reflect.DeepEqual(short.Metrics, whole.Best) {
		t.Errorf("scores of the best step: %v, want those of a run that ends there: %v", whole.Best, short.Metrics)
	}
	again, err := Evaluate(t.Context(), attn.NewWorkspace(), long.Model, long.Task, task.Test, 8)
	if err != nil || !reflect.DeepEqual(again, whole.Metrics) {
		t.Errorf("the model after the run scores %v, want %v (%v)", again, whole.Metrics, err)
	}

	stopped := start(50)
	stopped.Checkpoint = filepath.Join(t.TempDir(), "run")
	ctx, stop := context.WithCancel(context.Background())
	stopped.Progress = func(p Progress) {
		if p.Step == whole.BestStep+3 {
			stop()
		}
	}
	if _, err := Run(ctx, stopped); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	rest := start(50)
	rest.Checkpoint = stopped.Checkpoint
	if got := mustRun(t, rest); got.BestStep != whole.BestStep || !reflect.DeepEqual(got.Best, whole.Best) || !reflect.DeepEqual(got.Metrics, whole.Metrics) {
		t.Errorf("stopped and gone on with: step %d, %v and %v; want %d, %v and %v", got.BestStep, got.Best, got.Metrics, whole.BestStep, whole.Best, whole.Metrics)
	}
}
