package bert

import (
	"fmt"
	"math"
	"os"
	"slices"
	"testing"

	"attnbench/system"
	"attnbench/task"
)

// computeFloors fits the trivial methods on the training parts and scores them on the test parts.
func computeFloors(t *testing.T, data string) (list []floor) {
	t.Helper()
	f := &system.Fit{Data: data}
	classified := func(name, set, outside string, training, test []labelled) {
		classes, most := classesOf(training), majority(training)
		list = append(list,
			floor{name, set, "majority", scoreOf(classes, outside, test, func(string) string { return most })},
			floor{name, set, "bayes", scoreOf(classes, outside, test, newBayes(training, words).class)})
	}
	books, err := readBooks(f)
	if err != nil {
		t.Fatal(err)
	}
	vocabulary, err := bookWords(f, size.Pieces)
	if err != nil {
		t.Fatal(err)
	}
	s, err := maskedDefaults.New()
	if err != nil {
		t.Fatal(err)
	}
	k, err := s.(*masked).task(books, vocabulary)
	if err != nil {
		t.Fatal(err)
	}
	list = append(list, floor{"bert-mlm", "", "frequency", frequencies(encoded(books, "train", vocabulary), k.test, vocabulary.Size())})
	for _, s := range textSets {
		training, test, err := s.read(f, false)
		if err != nil {
			t.Fatal(err)
		}
		classified("classify", s.name, s.outside, training, test)
	}
	for _, n := range []int{4096, 16384} {
		classified("authorship", fmt.Sprint(n), "", passages(books, "train", n, nil), passages(books, "test", n, nil))
	}
	for _, s := range entitySets {
		training, test, err := s.read(f, false)
		if err != nil {
			t.Fatal(err)
		}
		x, err := dictionaryScore(training, test)
		if err != nil {
			t.Fatal(err)
		}
		values := []task.Value{value("F1", x.All.F1()), value("precision", x.All.Precision()), value("recall", x.All.Recall())}
		for _, c := range s.types {
			values = append(values, value("F1-"+c, x.Type(c).F1()))
		}
		list = append(list, floor{"ner", s.name, "dictionary", append(values, value("tag-accuracy", x.Accuracy()))})
	}
	return list
}

// TestFloors: the floors that tables show are what the methods reach.
func TestFloors(t *testing.T) {
	data := os.Getenv("ATTNBENCH_DATA")
	if data == "" {
		t.Skip("ATTNBENCH_DATA is not set: want the folder with the data sets")
	}
	list := computeFloors(t, data)
	for _, x := range list {
		i := slices.IndexFunc(known, func(y floor) bool { return y.system == x.system && y.set == x.set && y.name == x.name })
		ok := i >= 0 && len(known[i].values) == len(x.values)
		for j := 0; ok && j < len(x.values); j++ {
			ok = known[i].values[j].Unit == x.values[j].Unit && math.Abs(known[i].values[j].Value-x.values[j].Value) < 5e-5
		}
		if !ok {
			line := fmt.Sprintf("{%q, %q, %q, []task.Value{", x.system, x.set, x.name)
			for j, v := range x.values {
				if j > 0 {
					line += ", "
				}
				line += fmt.Sprintf("value(%q, %.4f)", v.Unit, v.Value)
			}
			t.Errorf("not among the known ones: %s}},", line)
		}
	}
	if len(list) != len(known) {
		t.Errorf("%d floors: want %d", len(known), len(list))
	}
}
