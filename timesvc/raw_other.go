//go:build !linux

package timesvc

import "time"

// rawName is the time base of Raw, for people.
const rawName = "the monotonic clock"

var processStart = time.Now()

// readRaw reads the monotonic clock, the only one that is asked for here. A time
// daemon may slew it, within the declared drift.
func readRaw() time.Duration { return time.Since(processStart) }

// readBoot goes on like readRaw: that the machine slept is not noticed, and shows
// only as readings of peers that contradict each other.
func readBoot() time.Duration { return time.Since(processStart) }
