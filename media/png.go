package media

import (
	"bytes"
	"fmt"
	"image/color"
	"image/png"
	"io"
)

// pixels is how many an image may have: a small PNG file may unpack to gigabytes.
const pixels = 1 << 22

// ReadPNG reads an image as grey: colours by their luma (ITU-R BT.601, as image/color has it), what is transparent as black.
func ReadPNG(r io.Reader) (*Image, error) {
	data, err := readAll("png", r)
	if err != nil {
		return nil, err
	}
	c, err := png.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("png: %w", err)
	}
	if c.Width > pixels || c.Height > pixels || c.Width*c.Height > pixels {
		return nil, fmt.Errorf("png: %dx%d: want at most %d pixels", c.Width, c.Height, pixels)
	}
	rest := bytes.NewReader(data)
	img, err := png.Decode(rest)
	if err != nil {
		return nil, fmt.Errorf("png: %w", err)
	}
	if rest.Len() > 0 {
		return nil, fmt.Errorf("png: %d bytes after the image: want none", rest.Len())
	}
	x := &Image{Width: c.Width, Height: c.Height, Pix: make([]float32, 0, c.Width*c.Height)}
	b := img.Bounds()
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for at := b.Min.X; at < b.Max.X; at++ {
			g := color.Gray16Model.Convert(img.At(at, y)).(color.Gray16)
			x.Pix = append(x.Pix, float32(g.Y)/0xffff)
		}
	}
	return x, nil
}
