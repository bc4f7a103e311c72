package main

import (
	"testing"

	"attnbench/attn/attntest"
	"attnbench/harness"
)

func TestCosine(t *testing.T) {
	m, err := Cosine{Scale: 10}.New()
	if err != nil {
		t.Fatal(err)
	}
	attntest.Run(t, m, m.(cosine).Define)
}

func BenchmarkAttention(b *testing.B) { harness.Bench(b) }
