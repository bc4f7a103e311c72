// Command gen writes the assembly of package kernel with avo, one part a run:
//
//	go run . -part mul -out ../mul_amd64.s -stubs ../mul_amd64.go -pkg kernel
//
// It is a module of its own, so that users of attnbench never download avo. `go generate` in
// the package runs it for every part; fresh_test.go holds the committed files against it.
package main

import (
	"flag"
	"fmt"
	"os"

	. "github.com/mmcloughlin/avo/build"
)

// parts are the generated files. Every part is written for both instruction sets, but for the
// transposes, which gain nothing from wider registers.
var parts = map[string]func(isa){
	"mul":     genMul,
	"softmax": genSoftmax,
	"vector":  genVector,
	"rows":    genRows,
	"elem":    genElem,
	"pack":    genPack,
	"recur":   genRecur,
	"bf16":    genPairs,
}

func main() {
	part := flag.String("part", "", "the part to write: mul, softmax, vector, rows, elem, pack, recur or bf16")
	flag.Parse()
	gen := parts[*part]
	if gen == nil {
		fmt.Fprintf(os.Stderr, "gen: unknown part %q\n", *part)
		os.Exit(2)
	}
	ConstraintExpr("!purego")
	gen(avx2)
	if *part != "pack" {
		gen(avx512)
	}
	Generate()
}
