package task

import (
	"fmt"
	"os"
	"path/filepath"
)

func init() { Register("lra-text", LRAText{Length: 1024}, LRAText.New) }

// LRAText holds the options of byte-level text classification: whether a film review likes its film.
//
// Maas et al. 2011 (ACL P11-1015); byte by byte in Tay et al. 2021, Long Range Arena (arXiv:2011.04006), at 1,000 to 4,000 bytes. The folder is aclImdb as its archive unpacks: train/pos, train/neg,
// test/pos and test/neg with a file a review. Every tenth training review is for validation, where LRA takes the test set.
type LRAText struct {
	Path   Path `opt:"path"`
	Length int  `opt:"length"` // bytes of a review, and the question
	Eval   int  `opt:"eval"`   // reviews of the test set, spread evenly; 0 for all
}

// New returns the task with the options o.
func (o LRAText) New() (Task, error) {
	if err := within(limit{"length", o.Length, 2, 1 << 24}); err != nil {
		return nil, err
	}
	list, err := loadOnce("lra-text", o.Path, readReviews)
	if err != nil {
		return nil, err
	}
	return newClassifier(Info{Name: Spell("lra-text", o), Title: "film reviews, byte by byte", Paper: "Maas et al. 2011 (ACL P11-1015); LRA (arXiv:2011.04006)"}, list, 2, o.Length, o.Eval, firstBytes)
}

func readReviews(folder string) (list examples, err error) {
	for i, part := range []string{"train", "test"} {
		for class, name := range []string{"neg", "pos"} {
			files, err := filepath.Glob(filepath.Join(folder, part, name, "*.txt"))
			if err == nil && len(files) == 0 {
				err = fmt.Errorf("%s: no reviews, *.txt", filepath.Join(folder, part, name))
			}
			if err != nil {
				return list, err
			}
			for _, f := range files { // Glob sorts them
				text, err := os.ReadFile(f)
				if err != nil {
					return list, err
				}
				list[2*i] = append(list[2*i], example{text, class})
			}
		}
	}
	list.tenth()
	return list, nil
}
