package results

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// lockFile takes the file for this process alone until it is closed. The byte that it locks lies
// beyond any content, so that readers are not kept out.
func lockFile(f *os.File) error {
	at := windows.Overlapped{OffsetHigh: 1 << 30}
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &at)
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return errors.New("it is open for writing elsewhere: want one writer at a time")
	}
	return err
}

// dirSyncUnsupported: a directory cannot be synced here.
func dirSyncUnsupported(error) bool { return true }
