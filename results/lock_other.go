//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd || windows)

package results

import (
	"errors"
	"os"
)

// lockFile refuses to write where two writers could not be kept apart.
func lockFile(*os.File) error {
	return errors.New("this operating system has no file locks that Go knows: results cannot be written")
}

func dirSyncUnsupported(error) bool { return true }
