package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"attnbench/harness"
	"attnbench/results"
	"attnbench/task"
	"attnbench/train"

	"github.com/spf13/cobra"
)

func newTuneCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tune MECH",
		Short: "Compare training strategies by successive halving",
		Long: `Train one mechanism on one task with every combination of optimiser, schedule, learning rate and what --with adds, for a part of the steps; go on with the better half (or what --eta says) for twice the steps, each from the start, until the last round has all
steps. What decides is the task's first metric on the validation set, as the median over --count seeds; the test set is not looked at.

The first table has a row for each combination: how far it came, its score there, the steps until the mean training loss of a tenth of the
run was at most --target, and the time. The second has a row for each combination but the rate: its best rate and score, and its robustness, the
fraction of the learning rates whose score in the first round is within 5% of its best there.`,
		Example: `  attnbench tune full --task mqar --optimisers adamw,lion,muon --rates 1e-3,3e-3,1e-2 --steps 200
  attnbench tune gla --schedules cosine,wsd --rates 1e-3,2e-3,4e-3,8e-3 --count 2 --steps 400
  attnbench tune full --rates 2e-3 --with dropout=0,0.1 --with clip=0,1`,
		Args: arguments(1, 1, "one mechanism or layer pattern"),
	}
	format := addFormat(cmd)
	var t tuning
	f := cmd.Flags()
	f.StringVar(&t.task, "task", "opticks", "task, with options")
	f.StringSliceVar(&t.optimisers, "optimisers", []string{"adamw"}, "optimisers: "+strings.Join(train.Rules(), ", "))
	f.StringSliceVar(&t.schedules, "schedules", []string{"cosine"}, "schedules: "+strings.Join(train.Schedules, ", "))
	f.Float64SliceVar(&t.rates, "rates", nil, "peak learning rates; default the recipe's, a third and three times of it")
	f.StringArrayVar(&t.with, "with", nil, "NAME=VALUES, a further axis; names: "+dialNames())
	f.IntVar(&t.steps, "steps", 0, "steps of the last round; default the recipe's")
	f.IntVar(&t.eta, "eta", 2, "one in so many goes on to the next round, with so many times the steps")
	f.IntVar(&t.count, "count", 1, "seeds of each combination")
	f.Uint64Var(&t.seed, "seed", 1, "first seed")
	f.Float64Var(&t.target, "target", 0, "training loss to be reached, in nats a token; 0 for none")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		t.cmd, t.mech = cmd, args[0]
		switch {
		case t.eta < 2 || t.eta > maxEta:
			return usage(cmd, fmt.Errorf("--eta %d: want 2 to %d", t.eta, maxEta))
		case t.count < 1 || t.count > harness.MaxSamples:
			return usage(cmd, fmt.Errorf("--count %d: want 1 to %d", t.count, harness.MaxSamples))
		case !(t.target >= 0):
			return usage(cmd, fmt.Errorf("--target %v: want more than 0, or 0 for none", t.target))
		case cmd.Flags().Changed("steps") && t.steps < 1:
			return usage(cmd, fmt.Errorf("--steps %d: want at least 1", t.steps))
		}
		if err := t.prepare(); err != nil {
			return err
		}
		if err := t.rounds(cmd.Context()); err != nil {
			return err
		}
		return t.write(format.Format)
	}
	return cmd
}

const maxEta = 1000

// tuning is what one tune command does.
type tuning struct {
	cmd                   *cobra.Command
	mech, task            string
	optimisers, schedules []string
	rates                 []float64
	with                  []string
	axes                  []axis
	steps, eta, count     int
	seed                  uint64
	target                float64
	recipe                harness.Recipe
	metric                task.Metric
	list                  []*strategy
}

// strategy is one combination, and what came of it in the last round that it was part of.
type strategy struct {
	optimiser, schedule string
	rate                float64
	with                []float64 // a value for each axis
	label               string    // of with
	round, steps        int
	first, score        float64 // of the first and the last round; NaN when it diverged
	reached             int     // step at which the target was reached; 0 for not
	seconds             float64
}

func (t *tuning) prepare() error {
	k, err := task.New(t.task)
	if err != nil {
		return err
	}
	t.metric = k.Info().Metrics[0]
	if t.recipe, err = harness.RecipeFor(t.task); err != nil {
		return err
	}
	if t.steps > 0 {
		t.recipe.Train.Warmup = share(t.recipe.Train.Warmup, t.steps, t.recipe.Train.Steps)
		t.recipe.Train.Steps = t.steps
	}
	if len(t.rates) == 0 {
		r := t.recipe.Train.Rate
		t.rates = []float64{r / 3, r, 3 * r}
	}
	for _, w := range t.with {
		a, err := parseAxis(w)
		if err != nil {
			return usage(t.cmd, err)
		}
		if err := twice("with "+a.name, a.values); err != nil {
			return usage(t.cmd, err)
		}
		if slices.ContainsFunc(t.axes, func(b axis) bool { return b.name == a.name }) {
			return usage(t.cmd, fmt.Errorf("--with %s: %s is there already: want each axis once", w, a.name))
		}
		t.axes = append(t.axes, a)
	}
	if err := cmp.Or(twice("optimisers", t.optimisers), twice("schedules", t.schedules), twice("rates", t.rates)); err != nil {
		return usage(t.cmd, err)
	}
	for _, o := range t.optimisers {
		for _, s := range t.schedules {
			for _, r := range t.rates {
				if !slices.Contains(train.Rules(), o) {
					return usage(t.cmd, fmt.Errorf("optimiser %q: want one of %s", o, strings.Join(train.Rules(), ", ")))
				}
				if !slices.Contains(train.Schedules, s) {
					return usage(t.cmd, fmt.Errorf("schedule %q: want one of %s", s, strings.Join(train.Schedules, ", ")))
				}
				if !(r > 0) || math.IsInf(r, 0) {
					return usage(t.cmd, fmt.Errorf("learning rate %v: want a finite number above 0", r))
				}
				for _, with := range t.combinations() {
					t.list = append(t.list, &strategy{optimiser: o, schedule: s, rate: r, with: with, label: t.label(with)})
				}
			}
		}
	}
	return nil
}

// twice reports a value that a flag lists again: it would be trained and counted twice.
func twice[T comparable](flag string, list []T) error {
	for i, x := range list {
		if slices.Contains(list[:i], x) {
			return fmt.Errorf("--%s: %v stands twice: want each once", flag, x)
		}
	}
	return nil
}

// combinations returns one value of each axis, in every way.
func (t *tuning) combinations() [][]float64 {
	all := [][]float64{nil}
	for _, a := range t.axes {
		var next [][]float64
		for _, c := range all {
			for _, x := range a.values {
				next = append(next, append(slices.Clone(c), x))
			}
		}
		all = next
	}
	return all
}

// label spells what the optimiser, the schedule and the rate do not say.
func (t *tuning) label(with []float64) string {
	var words []string
	for i, a := range t.axes {
		words = append(words, fmt.Sprintf("%s=%g", a.name, with[i]))
	}
	return strings.Join(words, ",")
}

// rounds trains all, then the best of them with more steps, and so on.
func (t *tuning) rounds(ctx context.Context) error {
	n := 1
	for left := len(t.list); left > 1; left = (left + t.eta - 1) / t.eta {
		n++
	}
	alive := slices.Clone(t.list)
	for round := 1; round <= n; round++ {
		steps := t.recipe.Train.Steps
		for range n - round {
			steps = max(1, steps/t.eta)
		}
		for i, s := range alive {
			fmt.Fprintf(t.cmd.ErrOrStderr(), "round %d of %d, %d of %d: %s, %s, rate %g, %s%d steps\n", round, n, i+1, len(alive), s.optimiser, s.schedule, s.rate, comma(s.label), steps)
			if err := t.try(ctx, s, steps); err != nil {
				return err
			}
			if s.round = round; round == 1 {
				s.first = s.score
			}
		}
		slices.SortStableFunc(alive, t.better)
		alive = alive[:(len(alive)+t.eta-1)/t.eta]
	}
	slices.SortStableFunc(t.list, func(a, b *strategy) int { return cmp.Or(cmp.Compare(b.round, a.round), t.better(a, b)) })
	return nil
}

func comma(label string) string {
	if label == "" {
		return ""
	}
	return label + ", "
}

// better orders strategies by score, the best first and those that diverged last.
func (t *tuning) better(a, b *strategy) int {
	x, y := a.score, b.score
	if t.metric.Better == "higher" {
		x, y = -x, -y
	}
	switch {
	case x != x && y != y:
		return 0
	case x != x:
		return 1
	case y != y:
		return -1
	}
	return cmp.Compare(x, y)
}

// try trains a strategy with every seed.
func (t *tuning) try(ctx context.Context, s *strategy, steps int) error {
	r := t.recipe
	r.Train.Warmup = share(r.Train.Warmup, steps, r.Train.Steps)
	r.Train.FinalRate *= s.rate / r.Train.Rate
	r.Train.Steps, r.Train.Rate = steps, s.rate
	r.Train.EvalEvery, r.Train.TargetUnit = steps, ""
	r.Train.Schedule = s.schedule
	if s.optimiser != "adamw" {
		r.Train.Optimiser, r.Train.Beta1, r.Train.Beta2, r.Train.Eps = s.optimiser, 0, 0, 0
	}
	for i, a := range t.axes {
		*a.of(&r) = s.with[i]
	}
	s.steps, s.reached = steps, 0
	var scores []float64
	var reached []int
	for i := range t.count {
		_, res, err := harness.Fit(ctx, r, t.mech, t.seed+uint64(i), harness.Fitting{})
		switch {
		case res.Diverged:
			scores = append(scores, math.NaN())
		case err != nil:
			return err
		case len(res.Valid) == 0 || len(res.Valid[len(res.Valid)-1].Values) == 0:
			return errors.New("the task gives no score on its validation set: want one that does")
		default:
			scores = append(scores, res.Valid[len(res.Valid)-1].Values[0].Value)
		}
		s.seconds += res.Seconds
		reached = append(reached, reach(res.Losses, t.target))
	}
	s.score = median(scores)
	if slices.Min(reached) > 0 {
		s.reached = slices.Max(reached)
	}
	return nil
}

// median sorts the list, NaN first, and returns its middle: the mean of two, if two are there.
func median(list []float64) float64 {
	slices.Sort(list)
	n := len(list)
	return (list[(n-1)/2] + list[n/2]) / 2
}

// reach returns the first step at which the mean loss of the last tenth of the run's steps is at most target, 0 for none.
func reach(losses []float32, target float64) int {
	width := max(1, len(losses)/10)
	sum := 0.0
	for i, x := range losses {
		sum += float64(x)
		if i >= width {
			sum -= float64(losses[i-width])
		}
		if i+1 >= width && target > 0 && sum/float64(width) <= target {
			return i + 1
		}
	}
	return 0
}

func number(x float64) string {
	if x != x {
		return "diverged"
	}
	return fmt.Sprintf("%.4g", x)
}

func (t *tuning) write(f results.Format) error {
	out := t.cmd.OutOrStdout()
	all := results.Sheet{
		Title:  fmt.Sprintf("%s on %s, %d seeds", t.mech, t.task, t.count),
		Header: t.header("rate", "round", "steps", t.metric.Unit, "steps to target", "sec"), Left: len(t.header()),
	}
	for _, s := range t.list {
		reached := "-"
		if s.reached > 0 {
			reached = fmt.Sprint(s.reached)
		}
		all.Rows = append(all.Rows, t.row(s, fmt.Sprintf("%g", s.rate), fmt.Sprint(s.round), fmt.Sprint(s.steps), number(s.score), reached, fmt.Sprintf("%.1f", s.seconds)))
	}
	if err := all.Write(out, f); err != nil {
		return err
	}
	fmt.Fprintln(out)
	short := results.Sheet{Header: t.header("best rate", "round", t.metric.Unit, "robustness"), Left: len(t.header())}
	for _, o := range t.optimisers {
		for _, k := range t.schedules {
			for _, with := range t.combinations() {
				short.Rows = append(short.Rows, t.robustness(o, k, t.label(with)))
			}
		}
	}
	return short.Write(out, f)
}

// header returns the names of a strategy's columns, and others behind them.
func (t *tuning) header(more ...string) []string {
	h := []string{"optimiser", "schedule"}
	if len(t.axes) > 0 {
		h = append(h, "with")
	}
	return append(h, more...)
}

func (t *tuning) row(s *strategy, more ...string) []string {
	r := []string{s.optimiser, s.schedule}
	if len(t.axes) > 0 {
		r = append(r, s.label)
	}
	return append(r, more...)
}

// robustness is the row of all strategies that differ in the rate alone.
func (t *tuning) robustness(optimiser, schedule, label string) []string {
	var group []*strategy // the best first
	first := math.NaN()
	for _, s := range t.list {
		if s.optimiser != optimiser || s.schedule != schedule || s.label != label {
			continue
		}
		group = append(group, s)
		if lower := t.metric.Better != "higher"; first != first || lower && s.first < first || !lower && s.first > first {
			first = s.first
		}
	}
	within := 0
	for _, s := range group {
		if math.Abs(s.first-first) <= 0.05*math.Abs(first) {
			within++
		}
	}
	best := group[0]
	return t.row(best, fmt.Sprintf("%g", best.rate), fmt.Sprint(best.round), number(best.score), fmt.Sprintf("%.2f", float64(within)/float64(len(group))))
}
