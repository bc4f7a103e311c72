package harness_test

import (
	"testing"

	"attnbench/harness"
)

func BenchmarkPrefill(b *testing.B)  { harness.Bench(b) }
func BenchmarkTrain(b *testing.B)    { harness.Bench(b) }
func BenchmarkDecode(b *testing.B)   { harness.Bench(b) }
func BenchmarkAccuracy(b *testing.B) { harness.Bench(b) }
