package task

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// parseOps reads an expression as it is written.
func parseOps(t testing.TB, text string) []int32 {
	var list []int32
	for word := range strings.FieldsSeq(text) {
		i := slices.Index(opNames[:], word)
		if i < 0 {
			t.Fatalf("word %q", word)
		}
		list = append(list, int32(i))
	}
	return list
}

func TestListOpsValues(t *testing.T) {
	for _, c := range []struct {
		text   string
		tokens int
		want   int32
	}{
		{"[MAX 4 3 [MIN 2 3 ] 1 0 [MED 1 5 8 9 2 ] ]", 17, 5},
		{"[SM 4 3 [MIN 2 3 ] 1 0 ]", 10, 0},
		{"[SM 4 3 [MIN 2 3 1 0 ] ]", 10, 7},
		{"[MED 3 6 ]", 4, 4}, // 4.5 cut off
		{"[MED 3 6 9 9 ]", 6, 7},
		{"[SM 9 9 9 ]", 5, 7},
		{"7", 1, 7},
	} {
		list := parseOps(t, c.text)
		got, rest := evaluate(list)
		if len(list) != c.tokens || got != c.want || len(rest) != 0 {
			t.Errorf("%s: %d tokens, value %d, %d left: want %d, %d, 0", c.text, len(list), got, len(rest), c.tokens, c.want)
		}
	}
	if slices.Equal(parseOps(t, "[SM 4 3 [MIN 2 3 ] 1 0 ]"), parseOps(t, "[SM 4 3 [MIN 2 3 1 0 ] ]")) {
		t.Error("two expressions have one encoding")
	}
}

func TestListOpsOneLevel(t *testing.T) {
	for _, c := range []struct {
		text string
		want [3]int32 // inner operations, what the root comes to without them, the root
	}{
		{"[MAX 4 3 [MIN 2 3 ] 1 0 [MED 1 5 8 9 2 ] ]", [3]int32{2, 4, opMax}},
		{"[MED 9 3 [MIN 2 [SM 1 1 ] ] 6 6 ]", [3]int32{1, 6, opMed}},
		{"[SM [MIN 2 3 ] ]", [3]int32{1, 10, opSum}},
		{"[MIN 8 7 ]", [3]int32{0, 7, opMin}},
	} {
		list := parseOps(t, c.text)
		if got := oneLevel(list, len(list)-1); !slices.Equal(got, c.want[:]) {
			t.Errorf("%s: %v: want %v", c.text, got, c.want[:])
		}
	}
	// On expressions without inner operations it knows the answer.
	list, err := Baselines(mustNew(t, "listops:min=0,max=12,depth=2,eval=300"))
	if err != nil || len(list) != 4 || list[3].Name != "one-level" || list[3].Values[0].Value < 0.99 {
		t.Errorf("%+v, %v: want a fourth baseline that is right", list, err)
	}
}

// stackValue evaluates the expression that ends a row with a stack, unlike the task itself.
func stackValue(tokens []int32) int32 {
	var stack []string
	for _, x := range tokens {
		if x != opEnd {
			stack = append(stack, opNames[x])
			continue
		}
		var args []int
		for {
			top := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			if n, err := strconv.Atoi(top); err == nil {
				args = append(args, n)
				continue
			}
			slices.Sort(args)
			sum := 0
			for _, a := range args {
				sum += a
			}
			n := len(args)
			value := map[string]int{"[MIN": args[0], "[MAX": args[n-1], "[SM": sum % 10, "[MED": (args[n/2] + args[(n-1)/2]) / 2}[top]
			stack = append(stack, strconv.Itoa(value))
			break
		}
	}
	n, _ := strconv.Atoi(stack[0])
	return int32(n)
}

func TestListOpsSolver(t *testing.T) {
	solved(t, "listops:eval=30", stackValue)
	solved(t, "listops:min=20,max=200,depth=6,args=6,eval=200", stackValue)
}

// TestListOpsRows checks what a row must be, for any options.
func TestListOpsRows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := ListOps{Depth: rapid.IntRange(2, 7).Draw(t, "depth"), Args: rapid.IntRange(2, 10).Draw(t, "args"), Eval: 1}
		o.Min = rapid.IntRange(0, int(math.Ceil(o.expected()))-1).Draw(t, "min")
		o.Max = o.Min + rapid.IntRange(8, 100).Draw(t, "room")
		k, err := o.New()
		if err != nil {
			t.Fatal(err)
		}
		b := k.Train(rapid.Uint64().Draw(t, "seed"), rapid.IntRange(0, 1e6).Draw(t, "step"), 2)
		for r := range b.Rows {
			tokens, labels := b.Row(r)
			end := slices.Index(tokens, opPad)
			if end < 0 {
				end = len(tokens)
			}
			if end <= o.Min || end >= o.Max || scored(labels) != 1 || labels[end-1] != stackValue(tokens[:end]) {
				t.Fatalf("%d tokens of %d to %d, labels %v: %v", end, o.Min, o.Max, labels, tokens)
			}
			depth, args := 0, []int{0}
			for i, x := range tokens[:end] {
				switch {
				case x == opEnd:
					if n := args[depth]; n < 2 || n > o.Args {
						t.Fatalf("an operation of %d arguments: want 2 to %d", n, o.Args)
					}
					args, depth = args[:depth], depth-1
				case x >= opMin:
					args[depth]++
					args, depth = append(args, 0), depth+1
				default:
					args[depth]++
				}
				if depth >= o.Depth || depth == 0 && i != end-1 {
					t.Fatalf("depth %d at %d of %v", depth, i, tokens)
				}
			}
		}
	})
}

// TestListOpsBalance: the digits are not equally likely, and no operation is left out.
func TestListOpsBalance(t *testing.T) {
	k := mustNew(t, "listops:eval=400")
	var value [10]int
	var ops [opTokens]int
	for b := range k.Eval(Test, 400) {
		for i, l := range b.Labels {
			ops[b.Tokens[i]]++
			if l >= 0 {
				value[l]++
			}
		}
	}
	most := slices.Max(value[:])
	t.Logf("values %v: the most frequent is %.1f%%", value, float64(most)/4)
	if most < 48 || most > 110 {
		t.Errorf("most frequent value %d times of 400: want about 17%%", most)
	}
	for op := opMin; op < opEnd; op++ {
		if share := float64(ops[op]) / float64(ops[opEnd]); share < 0.22 || share > 0.28 {
			t.Errorf("%s is %.3f of the operations: want a quarter", opNames[op], share)
		}
	}
}

func TestListOpsErrors(t *testing.T) {
	for _, c := range []struct{ options, want string }{
		{"args=1", "option args=1: want 2 to 100"}, {"depth=1", "option depth=1"}, {"max=7", "option max=7"}, {"min=1993", "option min=1993: want 0 to max less 8, 1992"},
		{"min=-1", "option min=-1"}, {"depth=2", "option min=500: want less than 8"}, {"eval=0", "option eval=0"},
	} {
		if _, err := New("listops:" + c.options); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v: want %q", c.options, err, c.want)
		}
	}
}
