package fusion

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"attnbench/model/fusion"
	"attnbench/system"
)

// TestFloors: the floors are what the trivial methods reach, to the last digit that is written down, and the image set's own floor is found too.
func TestFloors(t *testing.T) {
	dir := os.Getenv("ATTNBENCH_DATA")
	if dir == "" || testing.Short() {
		t.Skip("ATTNBENCH_DATA is not set, or -short: the floors are not computed again")
	}
	f := &system.Fit{Data: dir}
	d, err := load(f)
	if err != nil {
		t.Fatal(err)
	}
	var list []floor
	for _, c := range []struct {
		form, name string
		kinds      []fusion.Kind
	}{
		{"digit", "nearest-image", []fusion.Kind{fusion.Image}}, {"digit", "nearest-sound", []fusion.Kind{fusion.Sound}},
		{"match", "nearest-both", []fusion.Kind{fusion.Image, fusion.Sound}},
	} {
		x := newFuser(t, "fusion:form="+c.form)
		list = append(list, floor{c.form, c.name, x.nearestScore(d.train, d.test, c.kinds...)})
	}
	var got, want string
	for _, x := range []struct {
		to   *string
		list []floor
	}{{&got, list}, {&want, known}} {
		for _, f := range x.list {
			if f.name == official {
				continue
			}
			*x.to += fmt.Sprintf("%s %s", f.form, f.name)
			for _, v := range f.values {
				*x.to += fmt.Sprintf(", value(%q, %.4f)", v.Unit, v.Value)
			}
			*x.to += "\n"
		}
	}
	if got != want {
		t.Errorf("floors:\n%swant\n%s", got, want)
	}
	m, err := loadImages(f)
	if err != nil {
		t.Fatal(err)
	}
	var rule nearest
	for i := range 7000 {
		rule.add(shifted(m.at(i), 0, 0), int(m.labels[i]))
	}
	right := 0
	const every = 10 // of the 2,000 images of the test
	for i := 8000; i < 10000; i += every {
		if rule.class(shifted(m.at(i), 0, 0)) == int(m.labels[i]) {
			right++
		}
	}
	own := known[slices.IndexFunc(known, func(f floor) bool { return f.name == official })].values[0].Value
	if share := float64(right*every) / 2000; share < own-0.03 || share > own+0.03 {
		t.Errorf("a tenth of the images: %v: want the set's own floor, %v", share, own)
	}
}
