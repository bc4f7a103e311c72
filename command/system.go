package command

import (
	"context"
	"fmt"

	"attnbench/harness"
	"attnbench/results"
	"attnbench/system"
	"attnbench/task"

	"github.com/spf13/cobra"
)

// fitting is what one train command does with a whole system.
type fitting struct {
	cmd                                *cobra.Command
	spec, data, out, plot, checkpoints string
	mechs                              []string
	seed                               uint64
	count, steps                       int
}

func (t *fitting) run(f results.Format) error {
	s, err := system.New(t.spec)
	if err != nil {
		return err
	}
	info := s.Info()
	var jobs []harness.Job
	for i := range t.count {
		for _, mech := range t.mechs {
			fit := system.Fit{Data: t.data, Mech: mech, Seed: t.seed + uint64(i), Steps: t.steps, Log: t.cmd.ErrOrStderr()}
			j := harness.SystemJob(s, fit)
			if fit.Checkpoint, err = checkpointFile(t.checkpoints, j.Key); err != nil {
				return err
			}
			j.Run = func(ctx context.Context) (results.Record, error) {
				show, done := steps(t.cmd.ErrOrStderr(), fmt.Sprintf("%s, %s, seed %d", info.Name, fit.Mech, fit.Seed))
				defer done()
				noteCheckpoint(t.cmd, fit.Checkpoint)
				fit.Progress = show
				return harness.SystemJob(s, fit).Run(ctx)
			}
			jobs = append(jobs, j)
		}
	}
	set, err := collect(t.cmd, jobs, t.out)
	if err != nil {
		return err
	}
	tables, warnings, err := set.Tables(results.Query{})
	if err != nil {
		return err
	}
	warn(t.cmd, warnings...)
	if err := curves(t.plot, tables); err != nil {
		return err
	}
	for _, table := range tables {
		addBaselines(table, &task.Info{Name: info.Name, Metrics: info.Metrics}, info.Floors)
	}
	return results.WriteTables(t.cmd.OutOrStdout(), f, tables)
}
