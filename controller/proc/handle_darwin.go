package proc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/wiber/wiber/timesvc"
)

// lookEvery is how often a process is looked at: this system has no pidfd.
const lookEvery = 200 * time.Millisecond

// handle means one process by its identity. Between the comparison and the
// signal the pid could, in theory, be given to another process; only Linux
// closes that gap.
type handle struct{ id Identity }

func openHandle(id Identity) (*handle, error) { return &handle{id}, nil }

func (h *handle) close() {}

// signal compares the identity and then sends sig to the pid.
func (h *handle) signal(sig syscall.Signal) error {
	now, err := identify(h.id.PID, false)
	if err != nil {
		return err
	}
	if now != h.id {
		return ErrGone
	}
	if err := unix.Kill(h.id.PID, sig); errors.Is(err, unix.ESRCH) {
		return ErrGone
	} else if err != nil {
		return err
	}
	return nil
}

// wait returns nil when the process has ended (a zombie has ended), or the
// context's error.
func (h *handle) wait(ctx context.Context) error {
	ticker := timesvc.NewSystem(timesvc.Skew{}).NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		now, err := identify(h.id.PID, false)
		if errors.Is(err, ErrGone) || err == nil && now != h.id {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C():
		}
	}
}

// exit is not told to any but the parent on this system.
func (h *handle) exit(Identity) Exit { return Exit{Code: -1} }

// StartedAt returns when a living process started, if it is of this boot. now is
// the present moment.
func (id Identity) StartedAt(now time.Time) (time.Time, bool) {
	boot, err := bootID()
	if err != nil || id.BootID != boot {
		return time.Time{}, false
	}
	return time.UnixMicro(int64(id.StartTime)), true
}

// bootID is read once; it cannot change while a process lives.
var bootID = sync.OnceValues(func() (string, error) {
	s, err := unix.Sysctl("kern.bootsessionuuid")
	return strings.TrimSpace(s), err
})

// zombie is SZOMB of sys/proc.h.
const zombie = 5

// identify reads who has a pid now. A zombie has ended, but for zombieToo. The
// start time is in microseconds since 1970.
func identify(pid int, zombieToo bool) (Identity, error) {
	boot, err := bootID()
	if err != nil {
		return Identity{}, fmt.Errorf("read the boot id: %w", err)
	}
	if pid <= 0 {
		return Identity{}, ErrGone
	}
	kp, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if err != nil || int(kp.Proc.P_pid) != pid {
		return Identity{}, ErrGone // the call fails for a pid that nobody has
	}
	if kp.Proc.P_stat == zombie && !zombieToo {
		return Identity{}, ErrGone
	}
	started := kp.Proc.P_starttime
	return Identity{PID: pid, StartTime: uint64(started.Sec)*1_000_000 + uint64(started.Usec), BootID: boot}, nil
}
