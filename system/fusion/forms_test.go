package fusion

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"attnbench/model/fusion"
	"attnbench/system"
)

// loaded are the made-up sets, read.
func loaded(t *testing.T) *data {
	t.Helper()
	d, err := load(&system.Fit{Data: write(t, files())})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestParts: parts are disjoint, as the set has them or by speaker.
func TestParts(t *testing.T) {
	d := loaded(t)
	for _, c := range []struct {
		name        string
		train, test int
	}{{"test", 20, 10}, {"valid", 20, 10}, {"theo", 30, 10}, {"george", 20, 20}, {"lucas", 40, 0}} {
		training, test := d.part(c.name)
		if len(training) != c.train || len(test) != c.test {
			t.Errorf("%s: %d and %d: want %d and %d", c.name, len(training), len(test), c.train, c.test)
		}
		for _, p := range training {
			if slices.ContainsFunc(test, func(q pair) bool { return q.speaker == p.speaker }) {
				t.Errorf("%s: %s in training and in the test", c.name, p.speaker)
			}
		}
	}
}

// TestTraining: an epoch has each pair once, another epoch in another order; a batch is a function of seed and step alone.
func TestTraining(t *testing.T) {
	d := loaded(t)
	x := newFuser(t, "fusion")
	k := newBatches(x, d.train, d.test, 5)
	var orders []string
	for epoch := range 2 {
		seen := map[*pair]bool{}
		order := ""
		for step := range 4 {
			b := k.Train(5, epoch*4+step, 5)
			for row := range b.Rows {
				p := k.plan(int(b.Tokens[row*b.Length]), int(b.Tokens[row*b.Length+1]))
				seen[p.items[0].from] = true
				order += fmt.Sprint(p.items[0].from.digit)
			}
		}
		if len(seen) != 20 {
			t.Errorf("epoch %d has %d pairs: want 20", epoch, len(seen))
		}
		orders = append(orders, order)
	}
	if orders[0] == orders[1] {
		t.Errorf("both epochs in order %s", orders[0])
	}
	late := k.Train(5, 9, 5)
	k.Train(5, 0, 5)
	if again := newBatches(x, d.train, d.test, 5).Train(5, 9, 5); !slices.Equal(late.Labels, again.Labels) || !slices.Equal(late.Tokens, again.Tokens) {
		t.Error("the batch of a step depends on what was asked before")
	}
}

// TestMatch: half of the test's rows are as they are, the others have the image of the next row of another digit; about half of the training does.
func TestMatch(t *testing.T) {
	d := loaded(t)
	x := newFuser(t, "fusion:form=match")
	if len(x.conditions) != 7 {
		t.Errorf("%d conditions: want those without anything missing, 7", len(x.conditions))
	}
	k := newBatches(x, d.train, d.test, 5)
	for i := range d.test {
		p := k.plan(1, i)
		image, sound, answer := p.items[0].from, p.items[1].from, p.labels[2]
		want := &d.test[i]
		if i%2 == 1 {
			want = &d.test[(i+1)%len(d.test)]
		}
		if image != want || sound != &d.test[i] || answer != int32(yes-i%2) {
			t.Errorf("row %d: image of %d, sound of %d, answer %d", i, image.digit, sound.digit, answer)
		}
	}
	asked := map[int32]int{}
	for i := range 400 {
		p := k.plan(-1, i)
		want, label := int32(no), p.labels[len(p.labels)-1]
		switch image, sound := &p.items[0], &p.items[1]; {
		case len(p.labels) == 2:
			want = int32(sound.from.digit)
			asked[-1]++
		case image.state == missing || sound.state == missing:
			t.Errorf("example %d: something is missing", i)
		case image.from.digit == sound.from.digit:
			want = yes
		}
		if label != want {
			t.Errorf("example %d: labelled %d: want %d", i, label, want)
		}
		asked[label]++
	}
	if asked[-1] < 160 || asked[-1] > 240 || asked[yes] < 70 || asked[yes] > 130 {
		t.Errorf("%d of 400 ask for digits, %d match: want about a half and a quarter", asked[-1], asked[yes])
	}
}

// TestRecall: names are used once, each question has one answer, that of the digit so named, and one who only reads gets all right.
func TestRecall(t *testing.T) {
	d := loaded(t)
	x := newFuser(t, "fusion:form=recall,items=20")
	if got := x.lengths(); !slices.Equal(got, []int{8, 16, 20}) {
		t.Errorf("lengths %v", got)
	}
	if distinct := slices.Compact(slices.Sorted(slices.Values(names))); len(distinct) != len(names) {
		t.Errorf("%d names, %d distinct", len(names), len(distinct))
	}
	k := newBatches(x, d.train, d.test, 5)
	for g := -1; g < 3; g++ {
		for i := range 30 {
			p := k.plan(g, i)
			said := map[int32]int{}
			var last *pair
			word, asked, questions := 0, map[int32]bool{}, 0
			for _, it := range p.items {
				switch {
				case it.kind != fusion.Text:
					last = it.from
				case !it.question:
					if _, twice := said[it.words[0]]; twice || questions > 0 {
						t.Fatalf("name %d twice, or behind a question", it.words[0])
					}
					said[it.words[0]] = last.digit
					if want := never; g < 0 && p.labels[word] != int32(last.digit) || g >= 0 && p.labels[word] != want {
						t.Errorf("group %d: label %d where %d is named", g, p.labels[word], last.digit)
					}
					word++
				default:
					questions++
					asked[it.words[0]] = true
					if p.labels[word] != int32(said[it.words[0]]) {
						t.Errorf("question %d: answer %d: want %d", it.words[0], p.labels[word], said[it.words[0]])
					}
					word++
				}
			}
			if len(asked) != len(said) || questions != len(said) || g >= 0 && len(said) != k.groups[g].items || g >= 0 && len(said) < 8 || len(said) > 20 {
				t.Errorf("group %d: %d digits, %d questions for %d of them", g, len(said), questions, len(asked))
			}
		}
	}
}

// TestDraw: all states are drawn, and of what a model is given something is always there.
func TestDraw(t *testing.T) {
	for _, c := range []struct {
		spec string
		lose bool
		want int
	}{
		{"fusion", true, 15}, {"fusion:input=image", true, 12}, {"fusion:input=sound", true, 12}, {"fusion", false, 9},
		{"fusion:corrupt=both-noise", false, 1}, {"fusion:form=match,corrupt=clean", true, 3},
	} {
		x := newFuser(t, c.spec)
		seen := map[[2]state]bool{}
		r := rand.New(rand.NewPCG(1, 1))
		for range 1000 {
			d := x.draw(r, c.lose)
			seen[[2]state{d.image, d.sound}] = true
		}
		if len(seen) != c.want {
			t.Errorf("%s: %d conditions: want %d", c.spec, len(seen), c.want)
		}
		if seen[[2]state{missing, missing}] {
			t.Errorf("%s: image and sound missing", c.spec)
		}
	}
}
