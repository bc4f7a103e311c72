//go:build !purego

package kernel

import "testing"

// setTiles switches the use of tile registers for a test.
func setTiles(t testing.TB, on bool) {
	old := hasTiles
	hasTiles = on
	t.Cleanup(func() { hasTiles = old })
}
