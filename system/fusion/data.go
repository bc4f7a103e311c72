package fusion

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"attnbench/media"
	"attnbench/system"
)

const (
	pairsSet, imagesSet, soundsSet = "fusion-digits", "handwritten-digits", "spoken-digits"

	side = 28   // pixels of an image, both ways
	rate = 8000 // samples a second
)

// digits are the classes, by their words.
var digits = []string{"zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"}

// pair is a digit written and spoken.
type pair struct {
	digit   int
	speaker string
	pixels  []byte    // [side, side]
	samples []float32 // of mean square 1
}

// data are the pairs of each part, in the order of its file.
type data struct{ train, valid, test []pair }

// images are those of an IDX file, with their labels.
type images struct {
	pixels []byte // [count, side, side]
	labels []byte
}

func (m *images) at(i int) []byte { return m.pixels[i*side*side : (i+1)*side*side] }

// load reads the three sets.
func load(f *system.Fit) (*data, error) {
	m, err := loadImages(f)
	if err != nil {
		return nil, err
	}
	sounds, err := loadSounds(f)
	if err != nil {
		return nil, err
	}
	names := []string{"train.tsv", "valid.tsv", "test.tsv"}
	dir, err := f.Set(pairsSet, names...)
	if err != nil {
		return nil, err
	}
	d := new(data)
	for i, to := range []*[]pair{&d.train, &d.valid, &d.test} {
		text, err := os.ReadFile(filepath.Join(dir, names[i]))
		if err != nil {
			return nil, err
		}
		if *to, err = readPairs(string(text), m, sounds); err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(dir, names[i]), err)
		}
	}
	return d, nil
}

// part returns what to train on and what to test on: the official parts, or, of a speaker, all of the others and all of this one.
func (d *data) part(name string) (train, test []pair) {
	switch name {
	case "test":
		return d.train, d.test
	case "valid":
		return d.train, d.valid
	}
	for _, p := range slices.Concat(d.train, d.valid, d.test) {
		if p.speaker == name {
			test = append(test, p)
		} else {
			train = append(train, p)
		}
	}
	return train, test
}

// readPairs reads the rows wav, image, digit and word behind a header line.
func readPairs(text string, m *images, sounds map[string][]float32) ([]pair, error) {
	var list []pair
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimRight(line, "\r\n")
		if n == 1 {
			if line != "wav\timage\tdigit\tword" {
				return nil, fmt.Errorf("header %q: want wav, image, digit and word between tabs", line)
			}
			continue
		}
		p, err := readPair(strings.Split(line, "\t"), m, sounds)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		list = append(list, p)
	}
	if list == nil {
		return nil, errors.New("no rows: want one at least behind the header")
	}
	return list, nil
}

func readPair(cells []string, m *images, sounds map[string][]float32) (p pair, err error) {
	if len(cells) != 4 {
		return p, fmt.Errorf("%d columns: want 4", len(cells))
	}
	image, err := strconv.Atoi(cells[1])
	if err != nil || image < 0 || image >= len(m.labels) {
		return p, fmt.Errorf("image %q: want 0 to %d", cells[1], len(m.labels)-1)
	}
	p.digit = slices.Index(digits, cells[3])
	if p.digit < 0 || cells[2] != strconv.Itoa(p.digit) {
		return p, fmt.Errorf("digit %q, word %q: want 0 to 9 and its word", cells[2], cells[3])
	}
	if got := int(m.labels[image]); got != p.digit {
		return p, fmt.Errorf("image %d is of %d: want %d", image, got, p.digit)
	}
	name := strings.Split(strings.TrimSuffix(cells[0], ".wav"), "_")
	if len(name) != 3 || name[0] != cells[2] {
		return p, fmt.Errorf("recording %q: want one of %d, named digit_speaker_index.wav", cells[0], p.digit)
	}
	p.speaker, p.pixels = name[1], m.at(image)
	if p.samples = sounds[cells[0]]; p.samples == nil {
		return p, fmt.Errorf("recording %q: it is not in %s", cells[0], recordings)
	}
	return p, nil
}

func loadImages(f *system.Fit) (*images, error) {
	names := []string{"t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"}
	dir, err := f.Set(imagesSet, names...)
	if err != nil {
		return nil, err
	}
	var arrays [2]*media.IDX
	for i, name := range names {
		path := filepath.Join(dir, name)
		err := unzip(path, func(r io.Reader) (err error) {
			arrays[i], err = media.ReadIDX(r)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if a := arrays[i]; len(a.Dims) != 3-2*i || i == 0 && !slices.Equal(a.Dims[1:], []int{side, side}) {
			return nil, fmt.Errorf("%s: dimensions %v: want images of %dx%d and one label each", path, a.Dims, side, side)
		}
	}
	m := &images{arrays[0].Data, arrays[1].Data}
	if n := arrays[0].Dims[0]; n != len(m.labels) {
		return nil, fmt.Errorf("%s: %d images and %d labels: want as many", dir, n, len(m.labels))
	}
	return m, nil
}

const recordings = "recordings.tar.gz"

// loadSounds reads the recordings by name, each scaled to a mean square of 1: they are not equally loud.
func loadSounds(f *system.Fit) (map[string][]float32, error) {
	dir, err := f.Set(soundsSet, recordings)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, recordings)
	sounds := map[string][]float32{}
	err = unzip(path, func(r io.Reader) error {
		for t := tar.NewReader(r); ; {
			h, err := t.Next()
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			if h.Typeflag != tar.TypeReg {
				continue
			}
			name := filepath.Base(h.Name)
			if sounds[name] != nil {
				return fmt.Errorf("%s: it is there twice: want it once", name)
			}
			s, err := media.ReadWAV(t)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if s.Rate != rate || len(s.Samples) == 0 {
				return fmt.Errorf("%s: %d samples, %d a second: want some, %d a second", name, len(s.Samples), s.Rate, rate)
			}
			loudness(s.Samples)
			sounds[name] = s.Samples
		}
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return sounds, nil
}

// loudness scales x to a mean square of 1; silence stays.
func loudness(x []float32) {
	sum := 0.0
	for _, v := range x {
		sum += float64(v) * float64(v)
	}
	if sum == 0 {
		return
	}
	g := float32(1 / math.Sqrt(sum/float64(len(x))))
	for i := range x {
		x[i] *= g
	}
}

// unzip hands read the content of a gzip file, and checks what follows it.
func unzip(path string, read func(io.Reader) error) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return err
	}
	if err := read(r); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, r); err != nil { // the checksum stands at the end
		return err
	}
	return r.Close()
}
