//go:build !purego

package kernel

import "testing"

// setTiles switches the use of tile registers for a test.
func setTiles(t testing.TB, on bool) {
	old := hasTiles
	hasTiles = func() bool { return on }
	t.Cleanup(func() { hasTiles = old })
}
