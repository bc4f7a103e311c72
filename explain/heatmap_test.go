package explain

import (
	"bytes"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Both files are made, and the picture has the colours of its weights: full blue, full red, nothing else above the text's grey.
func TestFigure(t *testing.T) {
	w := &Weights{Heads: [][][]float64{{{1, 0}, {0.5, -1}}, {{0, 0}, {0, 0}}}}
	path := filepath.Join(t.TempDir(), "map")
	files, err := WriteFigure(path, "title", []string{" a", "b"}, []Layer{{0, w}, {1, w}})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 2 || files[0] != path+".png" || files[1] != path+".svg" {
		t.Fatalf("files %q", files)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	count := map[color.RGBA]int{}
	for y := range img.Bounds().Dy() {
		for x := range img.Bounds().Dx() {
			r, g, b, _ := img.At(x, y).RGBA()
			count[color.RGBA{uint8(r >> 8), uint8(g >> 8), uint8(b >> 8), 255}]++
		}
	}
	blue, red := count[color.RGBA{8, 64, 160, 255}], count[color.RGBA{178, 24, 43, 255}]
	half := count[color.RGBA{132, 160, 208, 255}]
	if blue < 500 || red < 500 || half < 500 {
		t.Errorf("%d pixels of full blue, %d of full red, %d of half blue: want a square of each", blue, red, half)
	}
	svg, err := os.ReadFile(files[1])
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"layer 1, head 0", "·a", "title"} {
		if !strings.Contains(string(svg), want) {
			t.Errorf("the SVG file has no %q", want)
		}
	}
	again, err := WriteFigure(path+".svg", "title", []string{" a", "b"}, []Layer{{0, w}, {1, w}})
	if err != nil || len(again) != 1 {
		t.Fatal(again, err)
	}
	if s, _ := os.ReadFile(path + ".svg"); !bytes.Equal(s, svg) {
		t.Error("the same figure, drawn twice, differs")
	}
	if _, err := WriteFigure(path, "", make([]string, MaxTokens+1), nil); err == nil {
		t.Error("too many tokens: no error")
	}
}
