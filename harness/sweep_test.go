package harness

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"attnbench/results"
)

const (
	sweepEnv   = "ATTNBENCH_TEST_SWEEP" // path of the store that a child process sweeps into
	sweepCells = 200
)

func fakeJob(i int) Job {
	name := fmt.Sprintf("Prefill/mech=fake/n=%d/heads=1/dim=1/causal=true/kv=1/batch=1", i)
	r := results.Record{
		Name: name, Iters: 1,
		Config: []results.Config{{Key: "seed", Value: fmt.Sprint(i % 3)}, {Key: "revision", Value: "1"}},
		Values: []results.Value{{Value: float64(i), Unit: "sec/op"}},
	}
	return Job{Key: r.Key(), Name: name, Run: func(context.Context) (results.Record, error) { return r, nil }}
}

func fakeJobs(n int) []Job {
	var jobs []Job
	for i := range n {
		jobs = append(jobs, fakeJob(i))
	}
	return jobs
}

// sweepChild is a process that sweeps until it is done or killed.
func sweepChild(path string) int {
	store, err := results.Open(path)
	if err == nil {
		jobs := fakeJobs(sweepCells)
		for i := range jobs {
			run := jobs[i].Run
			jobs[i].Run = func(ctx context.Context) (results.Record, error) {
				time.Sleep(time.Duration(rand.IntN(500)) * time.Microsecond)
				return run(ctx)
			}
		}
		_, err = Sweep(context.Background(), jobs, store, nil)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func TestKilledSweepHasEveryCellOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sweep.txt")
	start := func() (*exec.Cmd, *strings.Builder) {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), sweepEnv+"="+path)
		var out strings.Builder
		cmd.Stderr = &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd, &out
	}
	r := rand.New(rand.NewPCG(1, 2))
	killed := 0
	for range 20 {
		cmd, out := start()
		time.Sleep(time.Duration(r.IntN(30_000)) * time.Microsecond)
		cmd.Process.Kill()
		switch err := cmd.Wait(); {
		case err == nil: // it was done before
		case cmd.ProcessState.ExitCode() == -1:
			killed++
		default:
			t.Fatalf("a restarted sweep failed: %v: %s", err, out)
		}
	}
	cmd, out := start()
	if err := cmd.Wait(); err != nil {
		t.Fatalf("the last sweep: %v: %s", err, out)
	}
	set, err := results.ReadFiles(path)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, r := range set.Results {
		seen[string(r.Name)]++
	}
	for _, j := range fakeJobs(sweepCells) {
		if seen[j.Name] != 1 {
			t.Errorf("%s is there %d times after %d kills: want once", j.Name, seen[j.Name], killed)
		}
	}
	if len(set.Results) != sweepCells || len(set.Warnings) > 0 {
		t.Errorf("%d results, warnings %v: want %d and none", len(set.Results), set.Warnings, sweepCells)
	}
	t.Logf("killed %d times", killed)
}

func TestSweepGoesOn(t *testing.T) {
	jobs := fakeJobs(6)
	jobs[1].Run = func(context.Context) (results.Record, error) { return results.Record{}, errors.New("broken") }
	jobs[2].Run = func(context.Context) (results.Record, error) {
		return results.Record{}, &TooLarge{jobs[2].Name, 5 << 40, 1 << 30}
	}
	jobs[3].Run = jobs[4].Run // a record of another cell
	jobs = append(jobs, jobs[0], jobs[0], jobs[0])
	var store Memory
	if err := store.Append(results.Record{Name: jobs[5].Name, Config: []results.Config{{Key: "seed", Value: "2"}, {Key: "revision", Value: "1"}}}); err != nil {
		t.Fatal(err)
	}
	var ends []Progress
	out, err := Sweep(context.Background(), jobs, &store, func(p Progress) {
		if !p.Began {
			ends = append(ends, p)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if out.Finished != 2 || out.Found != 4 || len(out.Failed) != 2 || len(out.Skipped) != 1 {
		t.Errorf("outcome %+v: want 2 finished, 4 found, 2 failed, 1 skipped", out)
	}
	if got := out.Skipped[0].Err.Error(); !strings.Contains(got, "it needs 5.000TiB of memory: want at most 1.000GiB") {
		t.Errorf("a refused cell says %q", got)
	}
	if last := ends[len(ends)-1]; last.Done != last.Total || last.Total != 9 || last.Left != 0 {
		t.Errorf("at the end: %+v", last)
	}
	for i, p := range ends {
		if want := i + 2; p.Done != want { // one was there before the first
			t.Errorf("after cell %d: %d done: want %d", i, p.Done, want)
		}
	}
}

func TestSweepStops(t *testing.T) {
	full := errors.New("disk full")
	for _, c := range []struct {
		name  string
		store Store
		want  error
	}{
		{"store", failing{full}, full},
		{"context", &Memory{}, context.Canceled},
	} {
		ctx, cancel := context.WithCancel(context.Background())
		jobs := fakeJobs(3)
		run := jobs[1].Run
		jobs[1].Run = func(ctx context.Context) (results.Record, error) { cancel(); return run(ctx) }
		if _, err := Sweep(ctx, jobs, c.store, nil); !errors.Is(err, c.want) {
			t.Errorf("%s: error %v: want %v", c.name, err, c.want)
		}
		cancel()
	}
}

type failing struct{ err error }

func (failing) Has(string) bool               { return false }
func (f failing) Append(results.Record) error { return f.err }
