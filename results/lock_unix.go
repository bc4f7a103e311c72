//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package results

import (
	"errors"
	"os"
	"syscall"
)

// lockFile takes the file for this process alone until it is closed. The kernel lets go of it
// when the process dies, so that a killed sweep leaves no lock behind.
func lockFile(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EWOULDBLOCK):
			return errors.New("it is open for writing elsewhere: want one writer at a time")
		default:
			return err
		}
	}
}

// dirSyncUnsupported tells a file system that has no sync of directories from a failed one.
func dirSyncUnsupported(err error) bool {
	return errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP)
}
