package fusion

import (
	"fmt"
	"math"
	"slices"

	"attnbench/attn"
	"attnbench/autograd"
)

// Kind is a kind of tokens.
type Kind uint8

// The kinds.
const (
	Image Kind = iota
	Sound
	Text
)

func (k Kind) String() string { return [...]string{"image", "sound", "text"}[k] }

// Span is an image, a sound or some words.
type Span struct {
	Kind     Kind
	Data     []float32 // of an image [patches, patch width], whole; of a sound [frames, frame width]
	Words    []int32   // of a text
	Question bool      // the words ask
}

// Example is a sequence of spans. Spans of a kind that a model is not given it does not see.
type Example struct {
	Spans  []Span
	Labels []int32 // answer that each word is to give, in order; -1 for none
}

// Tokens returns how many tokens an example has under c.
func (x *Example) Tokens(c *Config) int {
	n := 0
	for _, s := range x.Spans {
		n += s.tokens(c)
	}
	return n
}

func (s *Span) tokens(c *Config) int {
	switch {
	case s.Kind == Text:
		return len(s.Words)
	case s.Kind == Image && c.Image:
		return len(s.Data) / c.PatchWidth
	case s.Kind == Sound && c.Sound:
		return len(s.Data) / c.FrameWidth
	}
	return 0
}

func (x *Example) check(c *Config) error {
	words := 0
	for i := range x.Spans {
		s := &x.Spans[i]
		switch s.Kind {
		case Image:
			if c.Image && len(s.Data) != c.Patches*c.PatchWidth {
				return fmt.Errorf("span %d: image of %d pixels: want %d patches of %d", i, len(s.Data), c.Patches, c.PatchWidth)
			}
		case Sound:
			if c.Sound && len(s.Data)%c.FrameWidth != 0 {
				return fmt.Errorf("span %d: sound of %d numbers: want frames of %d", i, len(s.Data), c.FrameWidth)
			}
		case Text:
			words += len(s.Words)
			for _, w := range s.Words {
				if w < 0 || int(w) >= c.Words {
					return fmt.Errorf("span %d: word %d: want 0 to %d", i, w, c.Words-1)
				}
			}
		default:
			return fmt.Errorf("span %d: kind %d: want image, sound or text", i, s.Kind)
		}
	}
	if len(x.Labels) != words {
		return fmt.Errorf("%d labels for %d words: want one a word", len(x.Labels), words)
	}
	for i, l := range x.Labels {
		if l != autograd.Ignored && (l < 0 || int(l) >= c.Classes) {
			return fmt.Errorf("label %d is %d: want -1 to %d", i, l, c.Classes-1)
		}
	}
	if n := x.Tokens(c); n > c.MaxLen {
		return fmt.Errorf("%d tokens: want at most max length %d", n, c.MaxLen)
	}
	return nil
}

// Batch is a number of examples, packed one behind the other without padding: what attends to what is said by segments. It is used again
// from step to step.
type Batch struct {
	pixels, frames []float32
	places         []int32 // of each patch
	words, asks    []int32
	labels         []int32 // of labelled words, in order
	streams        []stream
	reader         stream // of words alone
}

// stream is what one encoder sees.
type stream struct {
	from     []int32 // row of each token among all patches, then all frames, then all words
	segments []attn.Segment
	at       []int32 // tokens that have labels
	start    int     // of the example that is being packed
}

func (s *stream) begin() { s.start = len(s.from) }

func (s *stream) end() {
	n := len(s.from) - s.start
	s.segments = append(s.segments, attn.Segment{Query0: s.start, Queries: n, Key0: s.start, Keys: n})
}

// Pack replaces what b holds by examples, as a model of configuration c sees them.
func (b *Batch) Pack(c *Config, examples []Example) error {
	kinds := c.streams()
	b.pixels, b.frames, b.places, b.words, b.asks, b.labels = b.pixels[:0], b.frames[:0], b.places[:0], b.words[:0], b.asks[:0], b.labels[:0]
	if len(b.streams) != len(kinds) {
		b.streams = make([]stream, len(kinds))
	}
	patches, frames := 0, 0
	for i := range examples {
		if err := examples[i].check(c); err != nil {
			return fmt.Errorf("fusion: example %d: %w", i, err)
		}
		for j := range examples[i].Spans {
			switch s := &examples[i].Spans[j]; s.Kind {
			case Image:
				patches += s.tokens(c)
			case Sound:
				frames += s.tokens(c)
			}
		}
	}
	if patches+frames > math.MaxInt32/2 {
		return fmt.Errorf("fusion: %d patches and frames: want fewer", patches+frames)
	}
	all := []*stream{&b.reader}
	for i := range b.streams {
		all = append(all, &b.streams[i])
	}
	for _, s := range all {
		s.from, s.segments, s.at = s.from[:0], s.segments[:0], s.at[:0]
	}
	next := [...]int{Image: 0, Sound: patches, Text: patches + frames}
	for i := range examples {
		for _, s := range all {
			s.begin()
		}
		b.add(c, &examples[i], kinds, all, &next)
		for _, s := range all {
			s.end()
		}
	}
	return nil
}

// add packs one example. next is the row of the next token of each kind.
func (b *Batch) add(c *Config, x *Example, kinds [][]Kind, all []*stream, next *[3]int) {
	labels := x.Labels
	for i := range x.Spans {
		s := &x.Spans[i]
		n := s.tokens(c)
		for j := range n {
			row := int32(next[s.Kind] + j)
			for k, to := range all {
				if s.Kind != Text && (k == 0 || !slices.Contains(kinds[k-1], s.Kind)) {
					continue
				}
				if s.Kind == Text && labels[j] != autograd.Ignored {
					to.at = append(to.at, int32(len(to.from)))
				}
				to.from = append(to.from, row)
			}
			if s.Kind == Image {
				b.places = append(b.places, int32(j))
			}
		}
		next[s.Kind] += n
		switch {
		case n == 0:
		case s.Kind == Image:
			b.pixels = append(b.pixels, s.Data...)
		case s.Kind == Sound:
			b.frames = append(b.frames, s.Data...)
		default:
			b.words = append(b.words, s.Words...)
			ask := int32(0)
			if s.Question {
				ask = 1
			}
			b.asks = append(b.asks, slices.Repeat([]int32{ask}, n)...)
			for _, l := range labels[:n] {
				if l != autograd.Ignored {
					b.labels = append(b.labels, l)
				}
			}
			labels = labels[n:]
		}
	}
}
