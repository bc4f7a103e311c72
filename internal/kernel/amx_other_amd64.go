//go:build !purego && !linux

package kernel

func tilesAllowed() bool { return false }
