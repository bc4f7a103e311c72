package command

import (
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"attnbench/harness"
	"attnbench/results"
	"attnbench/task"
	"attnbench/train"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// beside adds columns of what a model without knowledge gets, and of the task's baselines.
func (t *training) beside(table *results.Table) error {
	tk, err := task.New(t.recipe.Task)
	if err != nil {
		return err
	}
	info := tk.Info()
	list, err := task.Baselines(tk)
	if err != nil {
		return err
	}
	addBaselines(table, &info, list)
	return nil
}

// addBaselines adds to a task's table a column of chance and one of each baseline.
func addBaselines(table *results.Table, info *task.Info, list []task.Baseline) {
	chance := task.Baseline{Name: "chance"}
	for _, m := range info.Metrics {
		if !math.IsNaN(m.Chance) { // it has one
			chance.Values = append(chance.Values, task.Value{Unit: m.Unit, Value: m.Chance})
		}
	}
	for _, b := range append([]task.Baseline{chance}, list...) {
		values := map[string]float64{}
		for _, v := range b.Values {
			values[v.Unit] = v.Value
		}
		// Not as parts of the name: of order-2 at its end, the 2 would be read as GOMAXPROCS.
		config := []results.Config{{Key: "mech", Value: b.Name}, {Key: "task", Value: info.Name}}
		table.AddColumn(b.Name, harness.Accuracy.String(), config, values)
	}
}

// steps returns what shows the progress of one training on w: a bar on a terminal, elsewhere ten lines.
func steps(w io.Writer, name string) (show func(train.Progress), done func()) {
	text := func(p train.Progress) string {
		left := time.Duration(p.Seconds / float64(p.Step) * float64(p.Steps-p.Step) * float64(time.Second))
		return fmt.Sprintf("%s: loss %.4f nats, %.0f tok/s (%v left)", name, p.Loss, p.Speed, left.Round(time.Second))
	}
	if f, ok := w.(*os.File); !ok || !term.IsTerminal(int(f.Fd())) {
		return func(p train.Progress) {
			if p.Step == p.Steps || p.Step*10/p.Steps != (p.Step-1)*10/p.Steps {
				fmt.Fprintf(w, "step %d/%d %s\n", p.Step, p.Steps, text(p))
			}
		}, func() {}
	}
	var bar *progressbar.ProgressBar
	return func(p train.Progress) {
			if bar == nil {
				bar = progressbar.NewOptions(p.Steps, progressbar.OptionSetWriter(w), progressbar.OptionSetPredictTime(false),
					progressbar.OptionShowCount(), progressbar.OptionClearOnFinish(), progressbar.OptionThrottle(100*time.Millisecond))
			}
			bar.Describe(text(p))
			bar.Set(p.Step)
		}, func() {
			if bar != nil {
				bar.Clear()
			}
		}
}
