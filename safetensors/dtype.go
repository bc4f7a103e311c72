package safetensors

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
)

// DType names the type of a tensor's elements, little-endian, as files spell it.
type DType string

// The types that are read and written as float32. Files may hold others, which are checked and left alone.
const (
	F32  DType = "F32"
	F16  DType = "F16"  // IEEE 754 binary16
	BF16 DType = "BF16" // the upper half of a float32
)

// sizes are the bytes of an element.
var sizes = map[DType]int{
	"BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "I16": 2, "U16": 2, F16: 2, BF16: 2,
	"I32": 4, "U32": 4, F32: 4, "I64": 8, "U64": 8, "F64": 8,
}

func (d DType) check() error {
	if sizes[d] == 0 {
		return fmt.Errorf("dtype %q: want one of %v", string(d), slices.Sorted(maps.Keys(sizes)))
	}
	return nil
}

func (d DType) checkFloat() error {
	switch d {
	case F32, F16, BF16:
		return nil
	}
	return fmt.Errorf("dtype %q: want F32, F16 or BF16", string(d))
}

// decode converts elements of type d to float32; each has one exactly.
func (d DType) decode(dst []float32, src []byte) {
	switch d {
	case F32:
		for i := range dst {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
		}
	case F16:
		for i := range dst {
			dst[i] = fromHalf(binary.LittleEndian.Uint16(src[2*i:]))
		}
	case BF16:
		for i := range dst {
			dst[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(src[2*i:])) << 16)
		}
	}
}

// append appends src as elements of type d, rounded to the nearest, ties to even.
func (d DType) append(dst []byte, src []float32) []byte {
	for _, x := range src {
		switch d {
		case F32:
			dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(x))
		case F16:
			dst = binary.LittleEndian.AppendUint16(dst, toHalf(x))
		case BF16:
			dst = binary.LittleEndian.AppendUint16(dst, toBrain(x))
		}
	}
	return dst
}

func fromHalf(h uint16) float32 {
	sign, exp, frac := uint32(h>>15)<<31, uint32(h>>10)&31, uint32(h)&1023
	switch exp {
	case 0: // zero or subnormal: frac·2^-24
		x := float32(frac) / (1 << 24)
		return math.Float32frombits(sign | math.Float32bits(x))
	case 31:
		return math.Float32frombits(sign | 255<<23 | frac<<13)
	}
	return math.Float32frombits(sign | (exp+127-15)<<23 | frac<<13)
}

func toHalf(x float32) uint16 {
	b := math.Float32bits(x)
	sign, exp, frac := uint16(b>>16)&0x8000, int(b>>23)&255-127+15, b&(1<<23-1)
	switch {
	case exp == 255-127+15:
		h := sign | 31<<10 | uint16(frac>>13)
		if frac != 0 && frac>>13 == 0 {
			h |= 1 // a NaN stays one
		}
		return h
	case exp <= 0: // below the smallest normal number: frac·2^-24
		shift := 14 - exp
		if shift > 25 {
			return sign
		}
		return sign | uint16(roundShift(frac|1<<23, shift))
	}
	// A carry out of the fraction raises the exponent, at last to that of infinity.
	h := uint32(exp)<<10 + roundShift(frac, 13)
	return sign | uint16(min(h, 31<<10))
}

// roundShift returns x·2^-n, rounded to the nearest, ties to even.
func roundShift(x uint32, n int) uint32 {
	half := uint32(1) << (n - 1)
	q := x >> n
	if r := x & (1<<n - 1); r > half || r == half && q&1 == 1 {
		q++
	}
	return q
}

func toBrain(x float32) uint16 {
	b := math.Float32bits(x)
	if x != x {
		h := uint16(b >> 16)
		if h&127 == 0 {
			h |= 1
		}
		return h
	}
	return uint16(roundShift(b, 16))
}
