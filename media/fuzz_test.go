package media

import (
	"bytes"
	"image"
	"testing"
)

func FuzzIDX(f *testing.F) {
	f.Add([]byte("\x00\x00\x08\x02\x00\x00\x00\x02\x00\x00\x00\x03abcdef"))
	f.Add([]byte("\x00\x00\x08\x03\x80\x00\x00\x00\x80\x00\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := ReadIDX(bytes.NewReader(data))
		if err != nil {
			return
		}
		n := 1
		for _, d := range x.Dims {
			n *= d
		}
		if n != len(x.Data) || len(data) != 4+4*len(x.Dims)+n {
			t.Errorf("%v of %d bytes from %d", x.Dims, len(x.Data), len(data))
		}
	})
}

func FuzzWAV(f *testing.F) {
	f.Add([]byte(riff(chunk("fmt ", pcm(1, 1, 8000, 16)), chunk("LIST", "abc"), chunk("data", "abcd"))))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := ReadWAV(bytes.NewReader(data))
		if err != nil {
			return
		}
		if s.Rate < 1 || 44+2*len(s.Samples) > len(data) {
			t.Errorf("%d samples of rate %d from %d bytes", len(s.Samples), s.Rate, len(data))
		}
		for _, x := range s.Samples {
			if !(x >= -1 && x < 1) {
				t.Errorf("sample %v", x)
			}
		}
	})
}

func FuzzPNG(f *testing.F) {
	f.Add(encode(f, image.NewGray(image.Rect(0, 0, 3, 2))))
	f.Add(encode(f, image.NewNRGBA(image.Rect(0, 0, 1, 4))))
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := ReadPNG(bytes.NewReader(data))
		if err != nil {
			return
		}
		if len(x.Pix) != x.Width*x.Height || len(x.Pix) > pixels {
			t.Errorf("%dx%d with %d pixels", x.Width, x.Height, len(x.Pix))
		}
		for _, p := range x.Pix {
			if !(p >= 0 && p <= 1) {
				t.Errorf("pixel %v", p)
			}
		}
	})
}
