package harness

import (
	"context"
	"errors"
	"fmt"
	"time"

	"attnbench/results"
)

// Job is one cell of a sweep: one sample.
type Job struct {
	Key  string  // of the record that Run returns (results.Key)
	Name string  // of the benchmark, for people
	Work float64 // how long it takes in comparison with others, about; 0 means 1
	Run  func(ctx context.Context) (results.Record, error)
}

// Store is where finished cells go: a results.Store, or Memory.
type Store interface {
	Has(key string) bool
	// Append returns when the record will survive a kill.
	Append(r results.Record) error
}

// Memory is a store that lives as long as the process.
type Memory struct {
	Records []results.Record
	keys    map[string]bool
}

// Has reports whether there is a record of that key.
func (m *Memory) Has(key string) bool { return m.keys[key] }

// Append adds r.
func (m *Memory) Append(r results.Record) error {
	if m.keys == nil {
		m.keys = map[string]bool{}
	}
	m.keys[r.Key()] = true
	m.Records = append(m.Records, r)
	return nil
}

// Progress tells how far a sweep is.
type Progress struct {
	Done, Total int           // cells, those of an earlier run included
	Name        string        // of the cell that was finished last, or begins
	Left        time.Duration // estimate; 0 before the first cell is finished
	Began       bool          // the cell begins
	Err         error         // of the cell that was finished last
}

// Outcome is what became of the cells of a sweep that have no record.
type Outcome struct {
	Finished, Found int       // cells measured now; cells that an earlier run had measured
	Failed          []Failure // those that went wrong
	Skipped         []Failure // those that do not fit in memory, or that nothing can compute
}

// Failure is a cell without a record.
type Failure struct {
	Name string
	Err  error
}

// Sweep runs the jobs that the store has no record of, in order, and appends the record of each as
// soon as it is finished. It goes on after a cell that fails, and lists it in the outcome. The error is of the store or of ctx: what
// is in the store stays, and the same sweep started again goes on behind it.
func Sweep(ctx context.Context, jobs []Job, store Store, progress func(Progress)) (Outcome, error) {
	if progress == nil {
		progress = func(Progress) {}
	}
	var out Outcome
	var todo []Job
	left := 0.0
	for _, j := range jobs {
		if store.Has(j.Key) {
			out.Found++
			continue
		}
		if j.Work <= 0 {
			j.Work = 1
		}
		left += j.Work
		todo = append(todo, j)
	}
	start, did, found := time.Now(), 0.0, out.Found
	for i, j := range todo {
		if err := ctx.Err(); err != nil {
			return out, err
		}
		p := Progress{Done: found + i, Total: len(jobs), Name: j.Name, Began: true}
		if did > 0 {
			p.Left = time.Duration(float64(time.Since(start)) / did * left)
		}
		progress(p)
		err := j.run(ctx, store, &out)
		if ctx.Err() != nil {
			return out, ctx.Err()
		}
		var se *storeError
		if errors.As(err, &se) {
			return out, se.err
		}
		did, left = did+j.Work, left-j.Work
		p.Done, p.Began, p.Err = p.Done+1, false, err
		p.Left = time.Duration(float64(time.Since(start)) / did * max(left, 0))
		progress(p)
	}
	return out, nil
}

type storeError struct{ err error }

func (e *storeError) Error() string { return e.err.Error() }

func (j *Job) run(ctx context.Context, store Store, out *Outcome) error {
	if store.Has(j.Key) { // listed twice
		out.Found++
		return nil
	}
	r, err := j.Run(ctx)
	if err == nil && r.Key() != j.Key {
		err = fmt.Errorf("its record has key %q: want %q", r.Key(), j.Key)
	}
	var large *TooLarge
	var none *Unsupported
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &large), errors.As(err, &none):
		out.Skipped = append(out.Skipped, Failure{j.Name, err})
		return err
	case err != nil:
		out.Failed = append(out.Failed, Failure{j.Name, err})
		return err
	}
	if err := store.Append(r); err != nil {
		return &storeError{err}
	}
	out.Finished++
	return nil
}
