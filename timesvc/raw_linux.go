package timesvc

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rawName is the time base of Raw, for people.
const rawName = "CLOCK_MONOTONIC_RAW"

// readRaw reads the machine's steadiest clock, which no time daemon slews.
func readRaw() time.Duration { return readClock(unix.CLOCK_MONOTONIC_RAW) }

// readBoot reads the clock that goes on while the machine sleeps, as
// CLOCK_MONOTONIC does not.
func readBoot() time.Duration { return readClock(unix.CLOCK_BOOTTIME) }

// readClock does what unix.ClockGettime does, but without telling the scheduler:
// the call never waits, and is read for every stamp.
func readClock(id int32) time.Duration {
	var ts unix.Timespec
	if _, _, errno := unix.RawSyscall(unix.SYS_CLOCK_GETTIME, uintptr(id), uintptr(unsafe.Pointer(&ts)), 0); errno != 0 {
		panic("timesvc: clock_gettime: " + errno.Error()) // every Linux that Go runs on has these
	}
	return time.Duration(ts.Nano())
}
