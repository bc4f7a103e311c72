package train

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"attnbench/attn"
	"attnbench/autograd"
	"attnbench/task"
)

// table is the smallest model with two parameters: an embedding of each token, and logits from it.
type table struct {
	embed, out *autograd.Param
	poison     int // the call of Loss that makes a NaN, from 1
	calls      int
}

func newTable(vocab int) *table {
	m := &table{embed: autograd.NewParam("embed", false, vocab, 8), out: autograd.NewParam("out", true, 8, vocab)}
	for i := range m.embed.Data {
		m.embed.Data[i] = float32(math.Sin(float64(7 * i)))
	}
	for i := range m.out.Data {
		m.out.Data[i] = float32(0.1 * math.Cos(float64(11*i)))
	}
	return m
}

func (m *table) Params() []*autograd.Param { return []*autograd.Param{m.embed, m.out} }

func (m *table) logits(t *autograd.Tape, tokens []int32) autograd.Var {
	return t.MatMul(t.Gather(t.Param(m.embed), tokens), t.Param(m.out))
}

func (m *table) Loss(t *autograd.Tape, tokens, labels []int32, rows, length int) (autograd.Var, error) {
	m.calls++
	x := m.logits(t, tokens)
	if m.calls == m.poison {
		t.Value(x)[0] = float32(math.NaN())
	}
	return t.CrossEntropy(x, labels, 0), nil
}

func (m *table) LossPerToken(t *autograd.Tape, tokens, labels []int32, rows, length int, nats []float32, predicted []int32) error {
	t.RowLosses(m.logits(t, tokens), labels, nats, predicted)
	return nil
}

func opticks(t *testing.T) task.Task {
	t.Helper()
	k, err := task.New("opticks:length=32,eval=2000")
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var settings = Settings{Steps: 30, Batch: 8, Rate: 0.03, Warmup: 5, Decay: 0.1, Clip: 1, EvalEvery: 10}

func config(t *testing.T) Config {
	return Config{Settings: settings, Model: newTable(256), Task: opticks(t), Seed: 1}
}

func mustRun(t *testing.T, c Config) Result {
	t.Helper()
	r, err := Run(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRunLearns(t *testing.T) {
	c := config(t)
	c.Steps, c.Rate = 200, 0.05
	var rates []float64
	c.Progress = func(p Progress) {
		if p.Steps != 200 || p.Step != len(rates)+1 || p.Tokens != 256 || p.Loss <= 0 || p.Norm <= 0 {
			t.Errorf("progress %+v after %d steps", p, len(rates))
		}
		rates = append(rates, p.Rate)
	}
	r := mustRun(t, c)
	v, ok := r.Metric("bits/byte")
	if !ok || v.Value > 4.5 || r.Diverged || r.Reached || r.Steps != 200 || len(r.Losses) != 200 || len(r.Valid) != 20 {
		t.Errorf("%v bits/byte, %+v: want less than 4.5 after 200 steps", v, r)
	}
	if rates[0] != 0.01 || rates[4] != 0.05 || rates[199] != 0 {
		t.Errorf("rates %v: want a warm-up of 5 steps to 0.05, and 0 at the end", rates)
	}
}

// same is the part of a result that the clock has no part in.
func same(r Result) string {
	r.Seconds, r.EvalSeconds = 0, 0
	return fmt.Sprintf("%+v", r)
}

func TestSameSeedSameBits(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	var want string
	for _, procs := range []int{1, 2, 7} {
		runtime.GOMAXPROCS(procs)
		c := config(t)
		r := mustRun(t, c)
		got := same(r) + fmt.Sprint(c.Model.(*table).embed.Data)
		if want == "" {
			want = got
		}
		if got != want {
			t.Errorf("other bits at GOMAXPROCS %d", procs)
		}
	}
	c := config(t)
	c.Seed = 2
	if r := mustRun(t, c); strings.Contains(want, fmt.Sprint(r.Losses)) {
		t.Errorf("seeds 1 and 2 give the same losses")
	}
}

func TestResumeGivesTheSameBits(t *testing.T) {
	whole := config(t)
	want := same(mustRun(t, whole))

	path := filepath.Join(t.TempDir(), "run.safetensors")
	from := 0
	for _, stop := range []int{7, 20, 29, 30} { // stopped by its context on the way, twice in front of a validation
		c := config(t)
		c.Checkpoint, c.CheckpointEvery = path, 4
		ctx, cancel := context.WithCancel(context.Background())
		var kept []byte // the checkpoint at the step before
		c.Progress = func(p Progress) {
			if from++; p.Step != from {
				t.Errorf("step %d: want %d, the one behind that where it was stopped", p.Step, from)
			}
			if p.Step == stop {
				cancel()
			}
			now, err := os.ReadFile(path)
			if changed := !bytes.Equal(now, kept); err != nil || kept != nil && changed != (p.Step%4 == 1) {
				t.Errorf("step %d: checkpoint written: %v, %v; want it behind every fourth step", p.Step, changed, err)
			}
			kept = now
		}
		r, err := Run(ctx, c)
		if err == nil || r.Steps != stop {
			t.Fatalf("stopped at %d: %d steps, error %v", stop, r.Steps, err)
		}
	}
	c := config(t)
	c.Checkpoint = path
	if got := same(mustRun(t, c)); got != want {
		t.Errorf("resumed: %s\nwant %s", got, want)
	}
	if !slices.Equal(c.Model.(*table).out.Data, whole.Model.(*table).out.Data) {
		t.Errorf("resumed run ends with other parameters")
	}
	// A finished run is read, not run again.
	again := config(t)
	again.Checkpoint = path
	again.Progress = func(Progress) { t.Errorf("a step of a finished run") }
	if got := same(mustRun(t, again)); got != want {
		t.Errorf("read again: %s\nwant %s", got, want)
	}
	if _, err := os.Stat(path + ".tmp"); err == nil {
		t.Errorf("a temporary file is left")
	}
}

func TestResumeRefusesOtherRuns(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run")
	c := config(t)
	c.Checkpoint, c.Variant = path, "full"
	mustRun(t, c)
	for _, f := range []struct {
		change func(*Config)
		want   string
	}{
		{func(c *Config) { c.Rate = 1 }, "it has Rate=0.03, this run Rate=1"},
		{func(c *Config) { c.Seed = 9 }, "seed=1"},
		{func(c *Config) { c.Variant = "sliding" }, "variant=full, this run variant=sliding"},
		{func(c *Config) { c.Task = mustTask(t, "opticks:length=16") }, "task="},
		{func(c *Config) { c.Model = newTable(300) }, "tensor embed: shape [256 8]: want [300 8]"},
		{func(c *Config) { os.WriteFile(path, []byte("text, not tensors"), 0o666) }, "checkpoint " + path},
	} {
		c := config(t)
		c.Checkpoint, c.Variant = path, "full"
		f.change(&c)
		before := slices.Clone(c.Model.(*table).embed.Data)
		if _, err := Run(context.Background(), c); err == nil || !strings.Contains(err.Error(), f.want) {
			t.Errorf("error %v: want %q", err, f.want)
		}
		if !slices.Equal(before, c.Model.(*table).embed.Data) {
			t.Errorf("%s: the model has changed", f.want)
		}
	}
}

func mustTask(t *testing.T, spec string) task.Task {
	t.Helper()
	k, err := task.New(spec)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestDivergenceIsAResult(t *testing.T) {
	c := config(t)
	m := c.Model.(*table)
	m.poison = 12
	var at12 []float32
	c.Progress = func(p Progress) {
		if p.Step == 11 {
			at12 = slices.Concat(m.embed.Data, m.out.Data)
		}
	}
	r := mustRun(t, c)
	if !r.Diverged || r.Steps != 11 || len(r.Losses) != 11 || !strings.Contains(r.Reason, "step 12") || !strings.Contains(r.Reason, "embed") {
		t.Errorf("%+v: want divergence at step 12 that names a parameter", r)
	}
	if !slices.Equal(at12, slices.Concat(m.embed.Data, m.out.Data)) {
		t.Errorf("the diverging step changed parameters")
	}
	if v, ok := r.Metric("bits/byte"); !ok || math.IsNaN(v.Value) {
		t.Errorf("bits/byte %v: want the model before the step to be scored", v)
	}
}

// An update that leaves no number is found though no loss follows it: nothing of it is saved, and the result says so.
func TestLastUpdateDiverges(t *testing.T) {
	for _, every := range []int{0, 5} {
		c := config(t)
		c.Checkpoint, c.CheckpointEvery = filepath.Join(t.TempDir(), "run.ckpt"), every
		c.EvalEvery, c.TargetUnit = 0, ""
		m := c.Model.(*table)
		c.Progress = func(p Progress) {
			if p.Step == p.Steps {
				m.out.Data[3] = float32(math.Inf(1))
			}
		}
		r := mustRun(t, c)
		if !r.Diverged || !strings.Contains(r.Reason, fmt.Sprintf("step %d: parameter %s, element 3, is +Inf", c.Settings.Steps, m.out.Name)) {
			t.Errorf("every %d steps: diverged %v, %q: want the parameter and the step named", every, r.Diverged, r.Reason)
		}
		k, err := ReadCheckpoint(c.Checkpoint)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range k.Tensors {
			for _, y := range x.Data {
				if y-y != 0 {
					t.Fatalf("every %d steps: the checkpoint's tensor %s holds %v: want finite numbers", every, x.Name, y)
				}
			}
		}
	}
}

func TestSkippingNonFiniteSteps(t *testing.T) {
	c := config(t)
	c.SkipNonFinite = true
	m := c.Model.(*table)
	m.poison = 12
	run, err := newRun(c)
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 13; n++ {
		before := fmt.Sprint(m.embed.Data, run.opt.m, run.opt.v)
		p, _, err := run.step()
		if err != nil {
			t.Fatal(err)
		}
		changed := before != fmt.Sprint(m.embed.Data, run.opt.m, run.opt.v)
		if p.Skipped != (n == 12) || changed == p.Skipped {
			t.Errorf("step %d: skipped %v, changed %v", n, p.Skipped, changed)
		}
	}
	if run.opt.Steps() != 12 || run.Skipped != 1 || run.Diverged {
		t.Errorf("%d updates, %d skipped: want 12 and 1", run.opt.Steps(), run.Skipped)
	}
}

func TestAnyCutIntoMicroBatches(t *testing.T) {
	k := opticks(t)
	batch := k.Train(1, 0, 8)
	for i := range batch.Labels { // rows of unlike weight, the fourth without any label
		if r := i / batch.Length; r == 3 || i%(r+1) != 0 {
			batch.Labels[i] = -1
		}
	}
	cuts := [][]int{{0, 8}, {0, 4, 8}, {0, 3, 8}, {0, 1, 2, 3, 4, 5, 6, 7, 8}}
	var wantLoss float64
	var want []float32
	for _, cut := range cuts {
		m := newTable(256)
		var list []task.Batch
		for i := range cut[1:] {
			list = append(list, batch.Slice(cut[i], cut[i+1]))
		}
		loss, tokens, err := accumulate(autograd.NewTape(attn.NewWorkspace()), m, list)
		if err != nil || tokens != batch.Scored() {
			t.Fatal(tokens, err)
		}
		grad := slices.Concat(m.embed.Grad, m.out.Grad)
		if want == nil {
			want, wantLoss = grad, loss
		}
		if math.Abs(loss-wantLoss) > 1e-6 {
			t.Errorf("cut at %v: loss %v: want %v", cut, loss, wantLoss)
		}
		for i := range grad {
			if math.Abs(float64(grad[i]-want[i])) > 1e-6 {
				t.Errorf("cut at %v: gradient %d is %v: want %v", cut, i, grad[i], want[i])
				break
			}
		}
	}
}

// constant is a model whose loss at each labelled token is given.
type constant struct{ losses map[int32]float32 }

func (constant) Params() []*autograd.Param { return nil }
func (m constant) Loss(t *autograd.Tape, tokens, labels []int32, rows, length int) (autograd.Var, error) {
	sum, n := float32(0), 0
	for i, l := range labels {
		if l >= 0 {
			sum += m.losses[tokens[i]]
			n++
		}
	}
	return t.Const([]float32{sum / float32(n)}, 1, 1), nil
}
func (constant) LossPerToken(*autograd.Tape, []int32, []int32, int, int, []float32, []int32) error {
	return nil
}

// TestMeanOverTokens: micro-batches with losses {4} and {1, 1, 2} have the mean 2, not 2.667.
func TestMeanOverTokens(t *testing.T) {
	m := constant{map[int32]float32{4: 4, 1: 1, 2: 2}}
	list := []task.Batch{
		{Tokens: []int32{4, 1, 1}, Labels: []int32{0, -1, -1}, Rows: 1, Length: 3},
		{Tokens: []int32{1, 1, 2}, Labels: []int32{0, 0, 0}, Rows: 1, Length: 3},
		{Tokens: []int32{4, 4, 4}, Labels: []int32{-1, -1, -1}, Rows: 1, Length: 3},
	}
	loss, tokens, err := accumulate(autograd.NewTape(attn.NewWorkspace()), m, list)
	if math.Abs(loss-2) > 1e-6 || tokens != 4 || err != nil {
		t.Errorf("loss %v over %d tokens, %v: want 2 over 4", loss, tokens, err)
	}
}

func TestMicroBatchesInRun(t *testing.T) {
	c := config(t)
	want := mustRun(t, c)
	c = config(t)
	c.Micro = 3
	got := mustRun(t, c)
	for i := range want.Losses {
		if math.Abs(float64(want.Losses[i]-got.Losses[i])) > 1e-4 {
			t.Errorf("step %d: loss %v by micro-batches: want %v", i+1, got.Losses[i], want.Losses[i])
		}
	}
}

func TestStopsAtTarget(t *testing.T) {
	c := config(t)
	c.Steps, c.TargetUnit, c.TargetValue = 100, "bits/byte", 6
	r := mustRun(t, c)
	last := r.Valid[len(r.Valid)-1]
	if !r.Reached || r.Steps >= 100 || r.Steps != last.Step || last.Values[0].Value > 6 {
		t.Errorf("%d steps, reached %v, last validation %v: want a stop below 6", r.Steps, r.Reached, last)
	}
	if len(r.Valid) > 1 && r.Valid[len(r.Valid)-2].Values[0].Value <= 6 {
		t.Errorf("it went on after %v", r.Valid[len(r.Valid)-2])
	}
}

func TestConfigErrors(t *testing.T) {
	for _, f := range []struct {
		change func(*Config)
		want   string
	}{
		{func(c *Config) { c.Rate = 0 }, "learning rate 0"},
		{func(c *Config) { c.Warmup = 31 }, "warm-up of 31 steps: want 0 to the number of steps, 30"},
		{func(c *Config) { c.Batch = 0 }, "batch of 0 rows"},
		{func(c *Config) { c.Batch = math.MaxInt }, "want at most 1048576"},
		{func(c *Config) { c.Micro = -1 }, "micro-batch"},
		{func(c *Config) { c.Settings.Decay = -1 }, "weight decay -1"},
		{func(c *Config) { c.Clip = math.NaN() }, "clipping at NaN"},
		{func(c *Config) { c.Beta2 = 1 }, "betas 0.9 and 1"},
		{func(c *Config) { c.EvalEvery = -1 }, "validation every -1 steps"},
		{func(c *Config) { c.EvalEvery, c.TargetUnit = 0, "bits/byte" }, "without validations"},
		{func(c *Config) { c.TargetUnit = "speed" }, `unknown metric "speed"`},
		{func(c *Config) { c.CheckpointEvery = -1 }, "checkpoint every -1"},
		{func(c *Config) { c.Checkpoint = "/no/such/folder/x" }, "no such file"},
		{func(c *Config) { c.Checkpoint = "/dev/full" }, "/dev/full"},
		{func(c *Config) { c.Task = unlabelled{c.Task} }, "step 1: a batch without labels"},
	} {
		c := config(t)
		f.change(&c)
		if _, err := Run(context.Background(), c); err == nil || !strings.Contains(err.Error(), f.want) {
			t.Errorf("error %v: want %q", err, f.want)
		}
	}
}

// unlabelled is a task whose training rows have no labels.
type unlabelled struct{ task.Task }

func (u unlabelled) Train(seed uint64, step, rows int) task.Batch {
	b := u.Task.Train(seed, step, rows)
	for i := range b.Labels {
		b.Labels[i] = -1
	}
	return b
}

func (u unlabelled) Eval(s task.Split, rows int) iter.Seq[task.Batch] { return u.Task.Eval(s, rows) }
