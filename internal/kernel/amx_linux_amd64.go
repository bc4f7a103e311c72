//go:build !purego

package kernel

import (
	"syscall"

	"golang.org/x/sys/cpu"
)

// tilesAllowed asks Linux (5.16 on) for the tile registers: it saves them from the first use of a process that asked.
func tilesAllowed() bool {
	if !cpu.X86.HasAMXTile || !cpu.X86.HasAMXBF16 {
		return false
	}
	const reqXcompPerm, tileData = 0x1023, 18 // arch/x86/include/uapi/asm/prctl.h; the feature's number in XCR0
	_, _, err := syscall.RawSyscall(syscall.SYS_ARCH_PRCTL, reqXcompPerm, tileData, 0)
	return err == 0
}
