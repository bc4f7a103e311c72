package command

import (
	"fmt"
	"io"
	"os"
	"time"

	"attnbench/harness"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// progress returns what shows a sweep's progress on w: a bar with the time left where w is a
// terminal, a line for each finished cell elsewhere. done ends the bar.
func progress(w io.Writer) (show func(harness.Progress), done func()) {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return func(p harness.Progress) {
			if !p.Began {
				fmt.Fprintln(w, progressLine(p))
			}
		}, func() {}
	}
	var bar *progressbar.ProgressBar
	show = func(p harness.Progress) {
		if bar == nil {
			bar = progressbar.NewOptions(p.Total, progressbar.OptionSetWriter(w), progressbar.OptionSetPredictTime(false),
				progressbar.OptionShowCount(), progressbar.OptionClearOnFinish(), progressbar.OptionFullWidth())
		}
		if p.Err != nil {
			bar.Clear()
			fmt.Fprintln(w, progressLine(p))
		}
		bar.Describe(p.Name + left(p))
		bar.Set(p.Done)
	}
	return show, func() {
		if bar != nil {
			bar.Clear()
		}
	}
}

func progressLine(p harness.Progress) string {
	what := "done"
	if p.Err != nil {
		what = p.Err.Error()
	}
	return fmt.Sprintf("%d/%d%s %s: %s", p.Done, p.Total, left(p), p.Name, what)
}

func left(p harness.Progress) string {
	if p.Left <= 0 {
		return ""
	}
	return fmt.Sprintf(" (%v left)", p.Left.Round(time.Second))
}
