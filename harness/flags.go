package harness

import (
	"flag"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"attnbench/attn"
)

// Under go test these flags choose what Bench sweeps; they stand after -args:
//
//	go test -run xxx -bench Prefill ./harness -args -lengths 512,8192 -mechs 'full,sliding:window=256'
var bench = struct {
	lengths, heads, dims, kv, batch ints
	causal                          bools
	mechs, tasks                    specs
	seed                            uint64
	limit                           int64
	fidelity, steps                 int
	rss                             bool
}{
	lengths: ints{1024, 4096}, heads: ints{8}, dims: ints{64}, kv: ints{0}, batch: ints{1},
	causal: bools{true}, seed: 1, fidelity: 512, rss: true,
}

func init() {
	if !testing.Testing() {
		return // the command has flags of its own
	}
	flag.Var(&bench.lengths, "lengths", "context lengths that harness.Bench sweeps")
	flag.Var(&bench.heads, "heads", "numbers of query heads")
	flag.Var(&bench.dims, "dim", "widths of a head")
	flag.Var(&bench.kv, "kv", "numbers of key/value heads; 0 means as many as query heads")
	flag.Var(&bench.batch, "batch", "numbers of sequences")
	flag.Var(&bench.causal, "causal", "masks: true, false or both")
	flag.Var(&bench.mechs, "mechs", "mechanisms with options; default all that are registered")
	flag.Var(&bench.tasks, "tasks", "tasks with options, for Accuracy; default all that have a recipe")
	flag.IntVar(&bench.steps, "steps", bench.steps, "steps of training, for Accuracy; 0 means the recipe's")
	flag.Uint64Var(&bench.seed, "seed", bench.seed, "seed of the first repetition; each further one has the next")
	flag.Int64Var(&bench.limit, "limit", bench.limit, "bytes of memory that a cell may need; 0 means what is available")
	flag.IntVar(&bench.fidelity, "fidelity", bench.fidelity, "longest context at which the output is compared with its definition; -1 for no errors at all")
	flag.BoolVar(&bench.rss, "rss", bench.rss, "measure resident memory in a process of its own")
}

func (l specs) orMechanisms() []string {
	if len(l) > 0 {
		return l
	}
	return attn.Names()
}

// ints is a flag that holds a list of integers.
type ints []int

func (l *ints) String() string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint([]int(*l)), " ", ","), "[]")
}

func (l *ints) Set(text string) error {
	var list []int
	for part := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(part)
		if err != nil || n < 0 {
			return fmt.Errorf("%q: want integers of at least 0, between commas", part)
		}
		list = append(list, n)
	}
	*l = list
	return nil
}

// bools is a flag that holds a list of truth values.
type bools []bool

func (l *bools) String() string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint([]bool(*l)), " ", ","), "[]")
}

func (l *bools) Set(text string) error {
	var list []bool
	for part := range strings.SplitSeq(text, ",") {
		if part != "true" && part != "false" {
			return fmt.Errorf("%q: want true, false or true,false", part)
		}
		list = append(list, part == "true")
	}
	*l = list
	return nil
}

// specs is a flag that holds a list of spellings with options.
type specs []string

func (l *specs) String() string { return strings.Join(*l, ",") }

func (l *specs) Set(text string) error {
	list, err := SplitSpecs(text)
	*l = list
	return err
}

// SplitSpecs splits a list of spellings such as "full,sliding:window=512,sinks=4,linear". A comma
// is between two of them unless what follows is one more option of the spelling before it.
func SplitSpecs(text string) ([]string, error) {
	var list []string
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		name, _, isOption := strings.Cut(part, "=")
		switch {
		case part == "":
			return nil, fmt.Errorf("list %q: an empty entry: want names with options, between commas", text)
		case !isOption || strings.Contains(name, ":"):
			list = append(list, part)
		case len(list) == 0 || !strings.Contains(list[len(list)-1], ":"):
			return nil, fmt.Errorf("list %q: option %s belongs to nothing: want name:option=value", text, part)
		default:
			list[len(list)-1] += "," + part
		}
	}
	return list, nil
}
