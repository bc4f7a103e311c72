package fusion

import (
	"math"
	"slices"

	"attnbench/media"
	"attnbench/model/fusion"
	"attnbench/task"
)

// nearest is the one-nearest-neighbour rule: a vector has the class of that of the training vectors which is least away from it.
type nearest struct {
	vectors [][]float32
	classes []int
}

func (n *nearest) add(vector []float32, class int) {
	n.vectors, n.classes = append(n.vectors, vector), append(n.classes, class)
}

// class returns the class of the nearest vector, the first of equals; -1 where there is none.
func (n *nearest) class(x []float32) int {
	best, class := math.Inf(1), -1
	for i, v := range n.vectors {
		sum := 0.0
		for j := 0; j < len(v) && sum < best; j += 64 { // not to the end of what is far away
			for k, y := range v[j:min(j+64, len(v))] {
				d := float64(y - x[j+k])
				sum += d * d
			}
		}
		if sum < best {
			best, class = sum, n.classes[i]
		}
	}
	return class
}

// columns is how many frames a sound has as a vector, however long it is.
const columns = 16

// resampled returns frames [n, width] as [columns, width], by linear interpolation between frames.
func resampled(frames []float32, width int) []float32 {
	n := len(frames) / width
	out := make([]float32, 0, columns*width)
	for i := range columns {
		at := float64(i) * float64(n-1) / (columns - 1)
		lo := int(at)
		hi, f := min(lo+1, n-1), float32(at-float64(lo))
		for b := range width {
			a := frames[lo*width+b]
			out = append(out, a+f*(frames[hi*width+b]-a))
		}
	}
	return out
}

// nearestScore scores the one-nearest-neighbour rule on a test, group by group: on the pixels of images as they are, or on log-mel frames of sounds. What is missing is taken for
// class 0. With both, a form that asks whether they match compares the classes.
func (x *fuser) nearestScore(train, test []pair, kinds ...fusion.Kind) []task.Value {
	r := &renderer{patch: side, mel: media.Mel{Rate: rate, Window: melWindow, Hop: 80, Bands: melBands}}
	vector := func(it *item) []float32 {
		s, ok := r.one(it)
		if !ok {
			return nil
		}
		if s.Kind == fusion.Sound {
			return resampled(s.Data, melBands)
		}
		return s.Data
	}
	var rules [2]nearest
	for i := range train {
		for _, it := range both(&train[i], &train[i], condition{}, 0, false) {
			rules[it.kind].add(vector(&it), train[i].digit)
		}
	}
	type corrupted struct {
		kind  fusion.Kind
		from  *pair
		state state
		seed  uint64
	}
	found := map[corrupted]int{} // the same in several groups
	classOf := func(it *item) int {
		key := corrupted{it.kind, it.from, it.state, it.seed}
		class, ok := found[key]
		if !ok {
			if v := vector(it); v != nil {
				class = rules[it.kind].class(v)
			}
			found[key] = class
		}
		return class
	}
	k := newBatches(x, train, test, 0)
	s := k.NewScore().(*score)
	for g := range k.groups {
		for i := range k.groups[g].count {
			p := k.plan(g, i)
			var guess [2]int
			for j := range p.items {
				if it := &p.items[j]; it.kind != fusion.Text && slices.Contains(kinds, it.kind) {
					guess[it.kind] = classOf(it)
				}
			}
			answer := guess[kinds[0]]
			if len(kinds) == 2 {
				answer = no
				if guess[0] == guess[1] {
					answer = yes
				}
			}
			s.tallies[g].count++
			if int32(answer) == p.labels[len(p.labels)-1] {
				s.tallies[g].right++
			}
		}
	}
	values := s.Values()
	return values[:len(values)-1] // it gives no losses
}

// floor is what a trivial method reaches on the official test, under all conditions.
type floor struct {
	form, name string
	values     []task.Value
}

// known are the floors, which TestFloors computes again where the sets are at hand.
var known = []floor{
	{"digit", "nearest-image", []task.Value{value("accuracy", 0.7422), value("accuracy@clean", 0.9200), value("accuracy@image-noise", 0.8860), value("accuracy@sound-noise", 0.9200), value("accuracy@both-noise", 0.8860), value("accuracy@image-occluded", 0.5640), value("accuracy@sound-occluded", 0.9200), value("accuracy@both-occluded", 0.5640), value("accuracy@image-missing", 0.1000), value("accuracy@sound-missing", 0.9200)}},
	{"digit", "nearest-sound", []task.Value{value("accuracy", 0.3818), value("accuracy@clean", 0.6580), value("accuracy@image-noise", 0.6580), value("accuracy@sound-noise", 0.2500), value("accuracy@both-noise", 0.2500), value("accuracy@image-occluded", 0.6580), value("accuracy@sound-occluded", 0.1020), value("accuracy@both-occluded", 0.1020), value("accuracy@image-missing", 0.6580), value("accuracy@sound-missing", 0.1000)}},
	{"match", "nearest-both", []task.Value{value("accuracy", 0.6174), value("accuracy@clean", 0.7740), value("accuracy@image-noise", 0.7500), value("accuracy@sound-noise", 0.5640), value("accuracy@both-noise", 0.5540), value("accuracy@image-occluded", 0.6840), value("accuracy@sound-occluded", 0.5100), value("accuracy@both-occluded", 0.4860)}},
	{"digit", official, []task.Value{value("accuracy@clean", 0.962)}},
}

// official names the image set's own floor: nearest pixels among 7,000 images, on 2,000 that the test's 500 are a part of.
const official = "nearest-of-7000"

func value(unit string, v float64) task.Value { return task.Value{Unit: unit, Value: v} }

// floors are those of this form, if the options leave them as they are.
func (x *fuser) floors() (list []task.Baseline) {
	if x.o.Corrupt != "all" || x.o.Test != "test" {
		return nil
	}
	for _, f := range known {
		if f.form == x.form.name {
			list = append(list, task.Baseline{Name: f.name, Values: f.values})
		}
	}
	return list
}
