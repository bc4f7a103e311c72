package harness

import (
	"bufio"
	"bytes"
	"os"
	"strconv"
	"strings"
)

// procValue returns the bytes that a line "key: n kB" of a file of /proc states.
func procValue(file, key string) (int64, bool) {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); {
		if rest, ok := strings.CutPrefix(s.Text(), key+":"); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 10, 64)
			return n << 10, err == nil
		}
	}
	return 0, false
}

// available returns the memory that the system could give without swapping.
func available() (int64, bool) { return procValue("/proc/meminfo", "MemAvailable") }

// peakRSS returns the largest resident memory of this process since it was started. It is that of
// the address space, not getrusage's figure, which a child inherits from its parent.
func peakRSS() (int64, bool) { return procValue("/proc/self/status", "VmHWM") }

func cpuName() string {
	data, _ := os.ReadFile("/proc/cpuinfo")
	for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); {
		if key, value, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// cacheSize returns the size of the data cache of a level, 0 if it is unknown.
func cacheSize(level int) int64 {
	for i := range 8 {
		dir := "/sys/devices/system/cpu/cpu0/cache/index" + strconv.Itoa(i) + "/"
		text := func(file string) string {
			data, _ := os.ReadFile(dir + file)
			return strings.TrimSpace(string(data))
		}
		if text("level") != strconv.Itoa(level) || text("type") == "Instruction" {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSuffix(text("size"), "K"), 10, 64)
		if err == nil && kib > 0 {
			return kib << 10
		}
	}
	return 0
}
