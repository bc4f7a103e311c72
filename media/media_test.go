package media

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/color"
	"image/png"
	"math"
	"math/cmplx"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestIDX(t *testing.T) {
	for _, c := range []struct{ name, file, err string }{
		{"labels", "\x00\x00\x08\x01\x00\x00\x00\x03abc", ""},
		{"images", "\x00\x00\x08\x03\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x02abcd", ""},
		{"none", "\x00\x00\x08\x02\x00\x00\x00\x00\xff\xff\xff\xff", ""},
		{"none, the other way round", "\x00\x00\x08\x02\xff\xff\xff\xff\x00\x00\x00\x00", ""},
		{"compressed", "\x1f\x8b\x08\x01\x00\x00\x00\x03abc", "idx: compressed by gzip: want it unpacked"},
		{"no header", "\x00\x00", "idx: header: 2 bytes: want at least 4"},
		{"another magic", "\x01\x00\x08\x01", "idx: magic number 0x01000801: want 0x000008 and the number of dimensions"},
		{"floats", "\x00\x00\x0d\x01\x00\x00\x00\x00", "idx: element type 0x0d: want 0x08, unsigned bytes"},
		{"no dimension", "\x00\x00\x08\x00", "idx: 0 dimensions: want at least 1"},
		{"cut header", "\x00\x00\x08\x03\x00\x00\x00\x01\x00", "idx: header of 3 dimensions: cut after 9 bytes: want 16"},
		{"cut", "\x00\x00\x08\x01\x00\x00\x00\x03ab", "idx: dimensions [3]: 2 bytes of data: want more"},
		{"too long", "\x00\x00\x08\x01\x00\x00\x00\x03abcd", "idx: dimensions [3]: 4 bytes of data: want 3"},
		{"little endian", "\x00\x00\x08\x01\x03\x00\x00\x00abc", "idx: dimensions [50331648]: 3 bytes of data: want more"},
		{"overflow", "\x00\x00\x08\x03\x80\x00\x00\x00\x80\x00\x00\x00\x00\x00\x00\x04", "idx: dimensions [2147483648 2147483648 4]: 0 bytes of data: want more"},
	} {
		x, err := ReadIDX(strings.NewReader(c.file))
		if c.err == "" && err != nil || c.err != "" && (err == nil || err.Error() != c.err) {
			t.Errorf("%s: %v: want %q", c.name, err, c.err)
		}
		if c.name == "images" && (!slices.Equal(x.Dims, []int{1, 2, 2}) || string(x.Data) != "abcd") {
			t.Errorf("%s: %v", c.name, x)
		}
	}
}

// chunk is one of a WAV file, padded.
func chunk(name, body string) string {
	s := name + string(binary.LittleEndian.AppendUint32(nil, uint32(len(body)))) + body
	if len(body)%2 == 1 {
		s += "\x00"
	}
	return s
}

func riff(chunks ...string) string {
	return chunk("RIFF", "WAVE"+strings.Join(chunks, ""))
}

// pcm is the body of a format chunk.
func pcm(format, channels, rate, bits int) string {
	b := binary.LittleEndian.AppendUint16(nil, uint16(format))
	b = binary.LittleEndian.AppendUint16(b, uint16(channels))
	b = binary.LittleEndian.AppendUint32(b, uint32(rate))
	b = binary.LittleEndian.AppendUint32(b, uint32(rate*channels*bits/8))
	b = binary.LittleEndian.AppendUint16(b, uint16(channels*bits/8))
	return string(binary.LittleEndian.AppendUint16(b, uint16(bits)))
}

func TestWAV(t *testing.T) {
	good, three := pcm(1, 1, 8000, 16), "\x00\x00\x00\x40\x00\x80" // 0, 16384, -32768
	long := riff(chunk("fmt ", good+"\x00\x00"), chunk("LIST", "abcdefg"), chunk("data", three))
	if at := strings.Index(long, three); at != 62 {
		t.Fatalf("samples start at byte %d: want 62", at)
	}
	beyond := []byte(riff(chunk("fmt ", good), chunk("data", three)))
	beyond[40] = 8 // of the chunk's size
	for _, c := range []struct{ name, file, err string }{
		{"plain", riff(chunk("fmt ", good), chunk("data", three)), ""},
		{"long format, odd chunk", long, ""},
		{"chunk after the data", riff(chunk("fmt ", good), chunk("data", three), chunk("LIST", "abc")), ""},
		{"not WAVE", chunk("RIFF", "AVI "), `wav: header "RIFF\x04\x00\x00\x00AVI ": want RIFF, a size and WAVE`},
		{"empty", "", `wav: header "": want RIFF, a size and WAVE`},
		{"compressed", "\x1f\x8b\x08", "wav: compressed by gzip: want it unpacked"},
		{"cut", long[:len(long)-2], "wav: RIFF size is 60: the file has 58 bytes after it"},
		{"data beyond the file", string(beyond), `wav: chunk "data" of 8 bytes at offset 44: the file has 6 left`},
		{"no padding", chunk("RIFF", "WAVE"+chunk("fmt ", good)+chunk("data", three)+"LIST\x01\x00\x00\x00a")[:59], "ends the file: want a byte of padding"},
		{"junk", riff(chunk("fmt ", good), chunk("data", three), "abcd"), "wav: 4 bytes at offset 50: want a chunk's name and size"},
		{"no format", riff(chunk("data", three)), `wav: chunk "data" before chunk "fmt ": want it after`},
		{"no data", riff(chunk("fmt ", good)), `wav: no chunk "data": want one`},
		{"nothing", riff(), `wav: no chunk "fmt ": want one`},
		{"two formats", riff(chunk("fmt ", good), chunk("fmt ", good)), `wav: a second chunk "fmt ": want one`},
		{"two of data", riff(chunk("fmt ", good), chunk("data", three), chunk("data", three)), `wav: a second chunk "data": want one`},
		{"half a sample", riff(chunk("fmt ", good), chunk("data", "abc")), `wav: chunk "data" of 3 bytes: want a multiple of 2`},
		{"short format", riff(chunk("fmt ", good[:14])), `wav: chunk "fmt " of 14 bytes: want at least 16`},
		{"floats", riff(chunk("fmt ", pcm(3, 1, 8000, 16))), "wav: format 3: want 1 (PCM, one channel of 16 bits)"},
		{"stereo", riff(chunk("fmt ", pcm(1, 2, 8000, 16))), "wav: channels 2: want 1 (PCM, one channel of 16 bits)"},
		{"8 bits", riff(chunk("fmt ", pcm(1, 1, 8000, 8))), "wav: bits a sample 8: want 16 (PCM, one channel of 16 bits)"},
		{"alignment", riff(chunk("fmt ", good[:12]+"\x04\x00"+good[14:])), "wav: block alignment 4: want 2 (PCM, one channel of 16 bits)"},
		{"no rate", riff(chunk("fmt ", pcm(1, 1, 0, 16))), "wav: 0 samples a second: want 1 to 1048576"},
	} {
		s, err := ReadWAV(strings.NewReader(c.file))
		if c.err == "" {
			if err != nil || s.Rate != 8000 || !slices.Equal(s.Samples, []float32{0, 0.5, -1}) {
				t.Errorf("%s: %v, %v", c.name, s, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v: want %q", c.name, err, c.err)
		}
	}
}

func encode(t testing.TB, m image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestPNG(t *testing.T) {
	grey := image.NewGray(image.Rect(0, 0, 3, 2))
	grey.Pix = []byte{0, 51, 255, 102, 153, 204}
	x, err := ReadPNG(bytes.NewReader(encode(t, grey)))
	if err != nil || x.Width != 3 || x.Height != 2 || !slices.Equal(x.Pix, []float32{0, 0.2, 1, 0.4, 0.6, 0.8}) {
		t.Errorf("%v, %v", x, err)
	}
	colours := image.NewNRGBA(image.Rect(0, 0, 2, 1))
	colours.SetNRGBA(0, 0, color.NRGBA{G: 255, A: 255})
	colours.SetNRGBA(1, 0, color.NRGBA{R: 255, G: 255, B: 255})
	x, err = ReadPNG(bytes.NewReader(encode(t, colours)))
	if err != nil || math.Abs(float64(x.Pix[0])-0.587) > 1e-4 || x.Pix[1] != 0 {
		t.Errorf("green and transparent: %v, %v: want 0.587 and 0", x, err)
	}
	good := encode(t, grey)
	wide := slices.Clone(good)
	copy(wide[16:], "\x00\x01\x00\x00\x00\x01\x00\x00") // 65536 x 65536
	binary.BigEndian.PutUint32(wide[29:], crc(wide[12:29]))
	for _, c := range []struct {
		name string
		file []byte
		err  string
	}{
		{"cut", good[:len(good)-5], "png: unexpected EOF"},
		{"trailing", append(slices.Clone(good), 'a'), "png: 1 bytes after the image: want none"},
		{"huge", wide, "png: 65536x65536: want at most 4194304 pixels"},
		{"compressed", []byte("\x1f\x8b\x08"), "png: compressed by gzip"},
		{"not PNG", []byte("GIF89a.........."), "png: invalid format"},
	} {
		if _, err := ReadPNG(bytes.NewReader(c.file)); err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v: want %q", c.name, err, c.err)
		}
	}
}

// crc is that of PNG's chunks, bit by bit.
func crc(b []byte) uint32 {
	c := ^uint32(0)
	for _, x := range b {
		c ^= uint32(x)
		for range 8 {
			c = c>>1 ^ 0xedb88320*(c&1)
		}
	}
	return ^c
}

// TestMelDefinition: frames are what a Fourier sum of each, written out, gives; samples beyond the end are 0.
func TestMelDefinition(t *testing.T) {
	m := Mel{Rate: 8000, Window: 64, Hop: 20, Bands: 10}
	s, err := NewSpectrum(m)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 1))
	for _, n := range []int{0, 1, 63, 64, 65, 84, 85, 131} {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(r.NormFloat64())
		}
		got := s.Frames(nil, x)
		if len(got) != m.Count(n)*m.Bands {
			t.Fatalf("%d samples: %d numbers: want %d frames of %d", n, len(got), m.Count(n), m.Bands)
		}
		if covered := m.Window + (m.Count(n)-1)*m.Hop; covered < n || m.Count(n) > 1 && covered-m.Hop >= n {
			t.Errorf("%d samples: frames reach %d", n, covered)
		}
		for i := range m.Count(n) {
			for b := range m.Bands {
				e := 0.0
				for k := range m.Window/2 + 1 {
					c := complex(0, 0)
					for j := range m.Window {
						if at := i*m.Hop + j; at < n {
							c += complex(float64(x[at])*(0.5-0.5*math.Cos(2*math.Pi*float64(j)/64)), 0) * cmplx.Exp(complex(0, -2*math.Pi*float64(j*k)/64))
						}
					}
					e += triangle(float64(k)*125, m.edge(b), m.edge(b+1), m.edge(b+2)) * math.Pow(cmplx.Abs(c), 2)
				}
				if first, f := m.filter(b); len(f) == 1 && triangle(m.bin(first), m.edge(b), m.edge(b+1), m.edge(b+2)) == 0 {
					continue // no bin lies in the band
				}
				if want := math.Log(max(e, 1e-10)); math.Abs(float64(got[i*m.Bands+b])-want) > 1e-4 {
					t.Errorf("%d samples, frame %d, band %d: %v: want %v", n, i, b, got[i*m.Bands+b], want)
				}
			}
		}
	}
}

// TestMelTone: a tone is loudest in the band whose middle is nearest, and silence is the floor.
func TestMelTone(t *testing.T) {
	m := Mel{Rate: 8000, Window: 256, Hop: 80, Bands: 32}
	if got := hertz(mel(1000)); math.Abs(mel(1000)-1000) > 0.1 || math.Abs(got-1000) > 1e-9 {
		t.Errorf("1000 Hz is %v mel, and back %v", mel(1000), got)
	}
	s, err := NewSpectrum(m)
	if err != nil {
		t.Fatal(err)
	}
	for _, band := range []int{4, 12, 20, 31} {
		x := make([]float32, 256)
		for i := range x {
			x[i] = float32(math.Sin(2 * math.Pi * m.edge(band+1) * float64(i) / 8000))
		}
		f := s.Frames(nil, x)
		if best := slices.Index(f, slices.Max(f)); best != band {
			t.Errorf("tone of band %d: loudest is %d", band, best)
		}
	}
	if f := s.Frames(nil, make([]float32, 300)); f[0] != float32(math.Log(1e-10)) {
		t.Errorf("silence: %v", f[0])
	}
	for _, bad := range []Mel{{}, {8000, 255, 80, 32}, {8000, 256, 0, 32}, {8000, 256, 80, 200}} {
		if _, err := NewSpectrum(bad); err == nil || !strings.HasPrefix(err.Error(), "mel: ") {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}
