package controller

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/wiber/wiber/timesvc"
)

// A controller that was killed while it started a node leaves its lock to that
// process for a moment, until it has become the node.
func TestTheLockOfADeadControllerIsWaitedFor(t *testing.T) {
	dir, clock := t.TempDir(), timesvc.NewSystem(timesvc.Skew{})
	alive := func(int) bool { return false }
	first, err := lockState(t.Context(), clock, dir, lockInfo{PID: 4711, Listen: "127.0.0.1:1"}, alive)
	must(t, err)
	if _, err := lockState(t.Context(), clock, dir, lockInfo{PID: 4712}, alive); err == nil || !strings.Contains(err.Error(), "pid 4711 on 127.0.0.1:1") {
		t.Errorf("the lock of a living controller: %v", err)
	}
	asked := 0
	second, err := lockState(t.Context(), clock, dir, lockInfo{PID: 4712}, func(pid int) bool {
		if asked++; asked == 3 {
			must(t, first.Close())
		}
		return pid == 4711
	})
	must(t, err)
	if asked != 3 {
		t.Errorf("looked %d times", asked)
	}
	must(t, errors.Join(second.Close(), os.RemoveAll(dir)))
}
