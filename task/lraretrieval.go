package task

import (
	"bufio"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

func init() { Register("lra-retrieval", LRARetrieval{Length: 4000}, LRARetrieval.New) }

// LRARetrieval holds the options of byte-level document retrieval: whether one paper cites the other.
//
// Radev et al. 2013, the ACL Anthology Network (AAN); pairs of Tay et al. 2021, Long Range Arena (arXiv:2011.04006), whose files new_aan_pairs.train.tsv, .eval.tsv and .test.tsv hold a pair a line: label (0 or 1, also
// as 0.0), two ids, two texts, between tabs. LRA encodes the papers apart and joins the two codes; here a decoder reads one after the other.
type LRARetrieval struct {
	Path   Path `opt:"path"`
	Length int  `opt:"length"` // bytes of each text; a row has two, a sign between them, and the question
	Eval   int  `opt:"eval"`   // pairs of the test set, spread evenly; 0 for all
}

// New returns the task with the options o.
func (o LRARetrieval) New() (Task, error) {
	if err := within(limit{"length", o.Length, 1, 1 << 23}); err != nil {
		return nil, err
	}
	list, err := loadOnce("lra-retrieval", o.Path, readPairs)
	if err != nil {
		return nil, err
	}
	return newClassifier(Info{Name: Spell("lra-retrieval", o), Title: "pairs of papers, byte by byte", Paper: "Radev et al. 2013, AAN; LRA (arXiv:2011.04006)"}, list, 2, 2*o.Length+2, o.Eval,
		func(e example, tokens []int32) int {
			// The two texts lie behind one another, with a tab between, which neither can have.
			a, b, _ := strings.Cut(string(e.bytes), "\t")
			n := 0
			put := func(text string) {
				for _, c := range []byte(text[:min(len(text), o.Length)]) {
					tokens[n] = int32(c)
					n++
				}
			}
			put(a)
			tokens[n] = sepToken
			n++
			put(b)
			return n
		})
}

func readPairs(folder string) (list examples, err error) {
	for i, part := range []string{"train", "eval", "test"} {
		if list[i], err = readPairFile(filepath.Join(folder, "new_aan_pairs."+part+".tsv")); err != nil {
			return list, err
		}
	}
	return list, nil
}

func readPairFile(name string) (list []example, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<26) // a paper is a line
	for n := 1; s.Scan(); n++ {
		e, err := parsePair(s.Text())
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, n, err)
		}
		list = append(list, e)
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return list, nil
}

func parsePair(line string) (example, error) {
	fields := strings.Split(line, "\t")
	if len(fields) != 5 {
		return example{}, fmt.Errorf("%d fields: want 5: label, two ids, two texts", len(fields))
	}
	label, err := strconv.ParseFloat(fields[0], 64)
	if err != nil || label != 0 && label != 1 || math.Signbit(label) {
		return example{}, fmt.Errorf("label %q: want 0 or 1", fields[0])
	}
	return example{[]byte(fields[3] + "\t" + fields[4]), int(label)}, nil
}
