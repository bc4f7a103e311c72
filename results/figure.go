package results

import (
	"fmt"
	"math"
	"strconv"

	"golang.org/x/perf/benchmath"
	"golang.org/x/perf/benchunit"
)

const (
	confidence = 0.95
	// Below intervalSamples the interval of a median at 95% is infinite, and below compareSamples
	// a side no difference can reach p < 0.05.
	intervalSamples = 6
	compareSamples  = 4
)

// Figure is the summary of the samples of one cell in one unit.
type Figure struct {
	Unit   Unit
	Median float64
	// Low and High bound the median with the given confidence. Below 6 samples there is no such interval at 95%,
	// and they are the smallest and the largest sample.
	Low, High, Confidence float64
	Values                []float64 // in ascending order
	Warnings              []error
}

// NewFigure summarises values, of which there is at least one.
func NewFigure(u Unit, values []float64) *Figure {
	s := benchmath.NewSample(append([]float64(nil), values...), &benchmath.DefaultThresholds)
	f := &Figure{Unit: u, Values: s.Values}
	n := len(s.Values)
	if u.Exact {
		sum := benchmath.AssumeExact.Summary(s, confidence)
		if f.Warnings = sum.Warnings; len(f.Warnings) == 0 {
			f.Median, f.Low, f.High, f.Confidence = sum.Center, sum.Lo, sum.Hi, sum.Confidence
			return f
		}
	}
	sum := benchmath.AssumeNothing.Summary(s, confidence)
	f.Median, f.Low, f.High, f.Confidence = sum.Center, sum.Lo, sum.Hi, sum.Confidence
	if n < intervalSamples {
		f.Low, f.High = s.Values[0], s.Values[n-1]
		f.Confidence = 1 - math.Pow(0.5, float64(n-1)) // that the median lies between the two
	}
	return f
}

// String shows the median, its spread and the number of samples: 12.3m ±2% n=10, or with fewer
// than 6 samples 12.3m 11.9m..12.8m n=3. Prefixes scale the unit.
func (f *Figure) String() string {
	n := len(f.Values)
	return f.Unit.Format(f.Median) + f.spread() + fmt.Sprintf(" n=%d", n)
}

func (f *Figure) spread() string {
	n := len(f.Values)
	far := math.Max(math.Abs(f.High-f.Median), math.Abs(f.Median-f.Low)) / math.Abs(f.Median)
	switch {
	case f.Low == f.High && (f.Unit.Exact || n > 1):
		return " ±0%"
	case n == 1:
		return ""
	case n < intervalSamples || f.Median == 0 || (f.Low < 0) != (f.High < 0) || far >= 1: // of which no percentage would speak
		return " " + f.Unit.Format(f.Low) + ".." + f.Unit.Format(f.High)
	}
	return " ±" + percent(far)
}

// percent writes a fraction with two significant digits at least.
func percent(x float64) string {
	p := 100 * math.Abs(x)
	switch {
	case p == 0:
		return "0%"
	case p < 0.1:
		return "<0.1%"
	case p < 9.95:
		return strconv.FormatFloat(p, 'f', 1, 64) + "%"
	}
	return strconv.FormatFloat(p, 'f', 0, 64) + "%"
}

// Format writes a value with three significant digits at least and a prefix to the unit.
func (u Unit) Format(v float64) string {
	if !u.Plain {
		return benchunit.Scale(v, benchunit.ClassOf(u.Name))
	}
	if v == math.Trunc(v) && math.Abs(v) < 1e15 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	if a := math.Abs(v); a >= 1e-3 && a < 1e6 {
		digits := 3 - int(math.Floor(math.Log10(a))) // four significant ones
		return strconv.FormatFloat(v, 'f', max(0, min(digits, 4)), 64)
	}
	return strconv.FormatFloat(v, 'e', 2, 64)
}

// unscaled writes a value exactly.
func unscaled(v float64) string { return benchunit.NoOpScaler.Format(v) }
