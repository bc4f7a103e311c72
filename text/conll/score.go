package conll

import (
	"fmt"
	"maps"
	"slices"
)

// Span is an entity: words From up to To of a sentence.
type Span struct {
	From, To int
	Type     string
}

// Spans returns the entities that labels mark, by the rules of conlleval (Tjong Kim Sang and Buchholz 2000), which make sense of any sequence: an
// entity begins at B, at I after O, and at I whose type is not that of the label before; it ends before the next that begins, before O, and at
// the end of the sentence.
func Spans(tags []string) ([]Span, error) {
	var list []Span
	open, before := false, "" // an entity, of that type
	for i, tag := range tags {
		kind, entity, err := parseTag(tag)
		if err != nil {
			return nil, fmt.Errorf("word %d: %w", i, err)
		}
		goesOn := open && kind == 'I' && entity == before
		if open && !goesOn {
			list[len(list)-1].To = i
		}
		if kind != 'O' && !goesOn {
			list = append(list, Span{From: i, Type: entity})
		}
		open, before = kind != 'O', entity
	}
	if open {
		list[len(list)-1].To = len(tags)
	}
	return list, nil
}

// Counts are numbers of entities.
type Counts struct {
	Gold    int // that are there
	Guessed int // that were found
	Right   int // of these, with the very words and type of one that is there
}

// Precision returns the fraction of the found entities that are right, 0 when none was found.
func (c Counts) Precision() float64 { return fraction(c.Right, c.Guessed) }

// Recall returns the fraction of the entities that were found, 0 when there are none.
func (c Counts) Recall() float64 { return fraction(c.Right, c.Gold) }

// F1 returns the harmonic mean of precision and recall.
func (c Counts) F1() float64 { return fraction(2*c.Right, c.Gold+c.Guessed) }

func fraction(a, b int) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}

// Score adds up entities over sentences, all together (micro) and by type, as conlleval does. The zero value is an empty score.
type Score struct {
	All    Counts
	Words  int
	Tagged int // words whose label is right, O among them
	types  map[string]*Counts
}

// Add counts a sentence.
func (s *Score) Add(gold, guessed []string) error {
	if len(gold) != len(guessed) {
		return fmt.Errorf("score: %d labels for %d words: want one each", len(guessed), len(gold))
	}
	want, err := Spans(gold)
	if err != nil {
		return err
	}
	got, err := Spans(guessed)
	if err != nil {
		return err
	}
	for i := range gold {
		s.Words++
		if gold[i] == guessed[i] {
			s.Tagged++
		}
	}
	for _, x := range want {
		s.of(x.Type).Gold++
		s.All.Gold++
	}
	for _, x := range got {
		c := s.of(x.Type)
		c.Guessed++
		s.All.Guessed++
		if slices.Contains(want, x) {
			c.Right++
			s.All.Right++
		}
	}
	return nil
}

func (s *Score) of(entity string) *Counts {
	if s.types == nil {
		s.types = map[string]*Counts{}
	}
	if s.types[entity] == nil {
		s.types[entity] = new(Counts)
	}
	return s.types[entity]
}

// Types returns the types that occurred, sorted.
func (s *Score) Types() []string { return slices.Sorted(maps.Keys(s.types)) }

// Type returns the counts of one type.
func (s *Score) Type(entity string) Counts {
	if c := s.types[entity]; c != nil {
		return *c
	}
	return Counts{}
}

// Accuracy returns the fraction of words whose label is right.
func (s *Score) Accuracy() float64 { return fraction(s.Tagged, s.Words) }
