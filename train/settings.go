package train

import (
	"crypto/sha256"
	"fmt"
	"math"
	"reflect"
	"strings"
)

// Settings are the numbers that fix how a model is trained, whatever the model and the task.
type Settings struct {
	Steps int // optimiser steps
	Batch int // rows a step
	Micro int // rows at a time, 0 for all of Batch: memory against speed, the same gradient to rounding

	Rate      float64 // peak learning rate
	FinalRate float64 // at the last step
	Warmup    int     // steps of linear warm-up

	Decay        float64 // decoupled weight decay
	Clip         float64 // largest norm of all gradients together; 0 for none
	Beta1, Beta2 float64 // 0 means the optimiser's own; of AdamW 0.9 and 0.999
	Eps          float64 // 0 means the optimiser's own; of AdamW 1e-8

	Optimiser string  `zero:"omit"` // one of Rules; empty for adamw
	Schedule  string  `zero:"omit"` // one of Schedules; empty for cosine
	Average   float64 `zero:"omit"` // the test set is scored on an exponential mean of the weights, of this decay a step; 0 for the last ones

	EvalEvery   int     // steps between validations; 0 for none
	TargetUnit  string  // a metric of the task to stop at when validation reaches TargetValue; empty for none
	TargetValue float64 // in the metric's own direction
}

func (s Settings) withDefaults() Settings {
	name := s.Optimiser
	if name == "" {
		name = "adamw"
	}
	r := rules[name] // an unknown one is found by check
	if s.Beta1 == 0 {
		s.Beta1 = r.beta1
	}
	if s.Beta2 == 0 {
		s.Beta2 = r.beta2
	}
	if s.Eps == 0 {
		s.Eps = r.eps
	}
	return s
}

// EvalRows is the rows of a batch of evaluation: as many as training takes at a time.
func (s Settings) EvalRows() int {
	if s.Micro > 0 {
		return s.Micro
	}
	return s.Batch
}

func (s Settings) schedule() Schedule {
	return Schedule{s.Rate, s.FinalRate, s.Warmup, s.Steps, s.Schedule}
}

// maxBatch bounds the rows of a step, and maxSteps the steps, so that products of sizes stay within their types.
const (
	maxBatch = 1 << 20
	maxSteps = 1 << 40
)

func (s Settings) check() error {
	if err := s.schedule().check(); err != nil {
		return err
	}
	switch {
	case s.Optimiser != "" && rules[s.Optimiser].state == nil:
		return fmt.Errorf("optimiser %q: want one of %s", s.Optimiser, strings.Join(Rules(), ", "))
	case !(s.Average >= 0 && s.Average < 1):
		return fmt.Errorf("mean of the weights of decay %v: want 0 to below 1", s.Average)
	case s.Batch < 1:
		return fmt.Errorf("batch of %d rows: want at least 1", s.Batch)
	case s.Batch > maxBatch:
		return fmt.Errorf("batch of %d rows: want at most %d", s.Batch, maxBatch)
	case s.Micro < 0:
		return fmt.Errorf("micro-batch of %d rows: want at least 0", s.Micro)
	case !(s.Decay >= 0) || math.IsInf(s.Decay, 0):
		return fmt.Errorf("weight decay %v: want a finite number of at least 0", s.Decay)
	case !(s.Clip >= 0):
		return fmt.Errorf("clipping at %v: want at least 0", s.Clip)
	case !(s.Beta1 >= 0 && s.Beta1 < 1 && s.Beta2 >= 0 && s.Beta2 < 1):
		return fmt.Errorf("betas %v and %v: want 0 to below 1", s.Beta1, s.Beta2)
	case !(s.Eps > 0):
		return fmt.Errorf("epsilon %v: want more than 0", s.Eps)
	case s.EvalEvery < 0:
		return fmt.Errorf("validation every %d steps: want at least 0", s.EvalEvery)
	case s.TargetUnit != "" && s.EvalEvery == 0:
		return fmt.Errorf("target %s without validations: want EvalEvery of at least 1", s.TargetUnit)
	}
	return nil
}

// canonical writes a struct as one line a field, name=value, in the order of its type: what a hash is taken of. Fields that
// are structs themselves are written as name.field.
func canonical(b *strings.Builder, prefix string, v any) {
	x := reflect.ValueOf(v)
	for i := range x.NumField() {
		name, f := prefix+x.Type().Field(i).Name, x.Field(i)
		if f.IsZero() && x.Type().Field(i).Tag.Get("zero") == "omit" {
			continue // a setting that came later: the hashes of recipes without it stay
		}
		switch f.Kind() {
		case reflect.Struct:
			canonical(b, name+".", f.Interface())
		case reflect.Bool, reflect.Int, reflect.Int64, reflect.Uint64, reflect.Float32, reflect.Float64, reflect.String:
			fmt.Fprintf(b, "%s=%v\n", name, f.Interface())
		default:
			panic("train: " + name + " of type " + f.Type().String() + " in a recipe: want plain values")
		}
	}
}

// hash is the SHA-256 of text, cut to 16 hexadecimal digits.
func hash(text string) string { return fmt.Sprintf("%.8x", sha256.Sum256([]byte(text))) }
