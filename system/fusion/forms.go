package fusion

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"attnbench/autograd"
	"attnbench/model/fusion"
)

// plan is an example before it is rendered.
type plan struct {
	items  []item
	labels []int32 // of each word
}

func (p *plan) text(question bool, words []int32, labels ...int32) {
	p.items = append(p.items, item{kind: fusion.Text, words: words, question: question})
	p.labels = append(p.labels, labels...)
}

// form is a task on pairs.
type form struct {
	name    string
	chance  float64 // share of right answers that guessing gives
	missing bool    // it can be answered when an image or a sound is missing
	// groups are the parts of the test that are scored apart, of so many examples each.
	groups func(x *fuser, test []pair) []group
	// training draws an example.
	training func(x *fuser, list []pair, first int, r *rand.Rand) plan
	// test makes example i of a group.
	test func(x *fuser, list []pair, g group, i int) plan
}

// group is a part of the test.
type group struct {
	name  string
	when  condition
	items int // of recall
	count int
}

var forms = []form{digitForm, matchForm, recallForm}

const never = autograd.Ignored

// The words and answers of all forms, so that a model of one can begin another. Behind the digits are no and yes.
var (
	words       = append([]string{"which", "digit", "do", "they", "match"}, names...)
	whichDigit  = []int32{0, 1}
	doTheyMatch = []int32{2, 3, 4}
)

const (
	firstName = 5
	no        = 10
	yes       = 11
	answers   = 12
)

// byCondition are the groups of forms whose examples are single pairs.
func byCondition(x *fuser, test []pair) (list []group) {
	for _, c := range x.conditions {
		list = append(list, group{name: c.name, when: c, count: len(test)})
	}
	return list
}

// digitForm asks what digit the image, the sound or both are of.
var digitForm = form{
	name: "digit", chance: 0.1, missing: true, groups: byCondition,
	training: func(x *fuser, list []pair, first int, r *rand.Rand) plan {
		return x.digit(&list[first], x.draw(r, len(x.conditions) > 1), r.Uint64(), true)
	},
	test: func(x *fuser, list []pair, g group, i int) plan {
		return x.digit(&list[i], g.when, uint64(i), false)
	},
}

func (x *fuser) digit(p *pair, when condition, seed uint64, vary bool) (out plan) {
	out.items = both(p, p, when, seed, vary)
	out.text(true, whichDigit, never, int32(p.digit))
	return out
}

// both returns the items of an image and of a sound.
func both(image, sound *pair, when condition, seed uint64, vary bool) []item {
	return []item{
		{kind: fusion.Image, from: image, state: when.image, seed: seed, vary: vary},
		{kind: fusion.Sound, from: sound, state: when.sound, seed: seed, vary: vary},
	}
}

// matchForm asks whether the sound is of the image's digit. Half of its training asks for digits instead, of an image or a sound alone too: yes and no say too little to
// learn digits from.
var matchForm = form{
	name: "match", chance: 0.5, groups: byCondition,
	training: func(x *fuser, list []pair, first int, r *rand.Rand) plan {
		if r.IntN(2) == 0 {
			return x.digit(&list[first], x.draw(r, true), r.Uint64(), true)
		}
		image := &list[first]
		if r.IntN(2) == 0 {
			image = other(list, first, r.IntN(len(list)))
		}
		return x.match(image, &list[first], x.draw(r, false), r.Uint64(), true)
	},
	// Half of the rows are as they are, the even ones, counted from 0. The others have the image of the next row of another digit.
	test: func(x *fuser, list []pair, g group, i int) plan {
		image := &list[i]
		if i%2 == 1 {
			image = other(list, i, i+1)
		}
		return x.match(image, &list[i], g.when, uint64(i), false)
	},
}

// other returns the first pair from i on, going round, whose digit is not that of pair of.
func other(list []pair, of, i int) *pair {
	for n := range list {
		if p := &list[(i+n)%len(list)]; p.digit != list[of].digit {
			return p
		}
	}
	return &list[of] // all are of one digit
}

func (x *fuser) match(image, sound *pair, when condition, seed uint64, vary bool) (out plan) {
	out.items = both(image, sound, when, seed, vary)
	answer := int32(no)
	if image.digit == sound.digit {
		answer = yes
	}
	out.text(true, doTheyMatch, never, never, answer)
	return out
}

// recallForm shows a row of digits, each as an image, a sound and then a name, and asks by their names, all in another order, what digits they were. In training each
// name is asked for its digit where it stands as well, and most rows are short: their number is even on a logarithmic scale from 1.
var recallForm = form{
	name: "recall", chance: 0.1, missing: true,
	groups: func(x *fuser, test []pair) (list []group) {
		for _, n := range x.lengths() {
			list = append(list, group{name: fmt.Sprint(n), items: n, count: (recallQuestions + n - 1) / n})
		}
		return list
	},
	training: func(x *fuser, list []pair, _ int, r *rand.Rand) plan {
		return x.recall(list, int(math.Exp(r.Float64()*math.Log(float64(x.o.Items+1)))), r, true)
	},
	test: func(x *fuser, list []pair, g group, i int) plan {
		return x.recall(list, g.items, rand.New(rand.NewPCG(uint64(g.items), uint64(i))), false)
	},
}

const (
	leastItems      = 8   // of the test
	recallQuestions = 512 // of the test, at each length
)

// lengths are the numbers of items that recall is tested at: powers of two, and the most.
func (x *fuser) lengths() (list []int) {
	for n := leastItems; n < x.o.Items; n *= 2 {
		list = append(list, n)
	}
	return append(list, x.o.Items)
}

func (x *fuser) recall(list []pair, n int, r *rand.Rand, training bool) (out plan) {
	called := r.Perm(len(names))[:n]
	var asked []*pair
	for _, name := range called {
		p := &list[r.IntN(len(list))]
		out.items = append(out.items, both(p, p, x.draw(r, len(x.conditions) > 1), r.Uint64(), training)...)
		label := never
		if training {
			label = int32(p.digit)
		}
		out.text(false, []int32{int32(firstName + name)}, label)
		asked = append(asked, p)
	}
	for _, i := range r.Perm(n) {
		out.text(true, []int32{int32(firstName + called[i])}, int32(asked[i].digit))
	}
	return out
}

// draw returns a condition: the one that models are trained under, or any. With lose, the image is missing a third of the time and the sound another, so that a model of
// both learns to do without the easier one (Neverova et al. 2016, arXiv:1501.00102, "ModDrop"); what a model of one is given is not.
func (x *fuser) draw(r *rand.Rand, lose bool) condition {
	c := condition{image: state(r.IntN(int(missing))), sound: state(r.IntN(int(missing)))}
	if len(x.conditions) == 1 {
		c = x.conditions[0]
	}
	if lose {
		switch lost := r.IntN(3); {
		case lost == 0 && x.o.Input != "image":
			c.image = missing
		case lost == 1 && x.o.Input != "sound":
			c.sound = missing
		}
	}
	return c
}

// names are what recall calls its digits.
var names = []string{
	"acorn", "anchor", "apple", "arrow", "badge", "basket", "bell", "boat", "bottle", "bridge", "brush", "button", "candle", "castle", "chair", "clock",
	"cloud", "coin", "comb", "crown", "cup", "door", "drum", "eagle", "feather", "fence", "flag", "flute", "fork", "gate", "glove", "hammer",
	"harbour", "hat", "horn", "island", "jacket", "kettle", "key", "ladder", "lamp", "leaf", "lemon", "lock", "mirror", "needle", "nest", "oar",
	"paper", "pearl", "pencil", "piano", "pillow", "plough", "quilt", "ribbon", "river", "rope", "saddle", "shell", "spoon", "table", "tower", "wheel",
}

func formNamed(name string) (form, bool) {
	i := slices.IndexFunc(forms, func(f form) bool { return f.name == name })
	if i < 0 {
		return form{}, false
	}
	return forms[i], true
}
