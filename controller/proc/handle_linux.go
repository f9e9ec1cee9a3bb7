package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// handle means one process for as long as it is held: a pidfd, in the runtime's
// poller, so that waiting costs no thread. It needs Linux 5.10.
type handle struct {
	file *os.File
	conn syscall.RawConn
}

// openHandle opens a pidfd. The caller compares identities afterwards.
func openHandle(id Identity) (*handle, error) {
	fd, err := unix.PidfdOpen(id.PID, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) {
		return nil, ErrGone
	}
	if err != nil {
		return nil, fmt.Errorf("open a pidfd of %s (Linux 5.10 or newer is needed): %w", id, err)
	}
	file := os.NewFile(uintptr(fd), "pidfd "+strconv.Itoa(id.PID))
	conn, err := file.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &handle{file: file, conn: conn}, nil
}

func (h *handle) close() { _ = h.file.Close() }

// signal sends sig to exactly the process that the handle means.
func (h *handle) signal(sig syscall.Signal) error {
	var err error
	if cerr := h.conn.Control(func(fd uintptr) {
		err = unix.PidfdSendSignal(int(fd), sig, nil, 0)
	}); cerr != nil || errors.Is(err, unix.ESRCH) {
		return ErrGone // the watcher closes the handle when it has seen the end
	}
	return err
}

// wait returns nil when the process has ended (a zombie has ended), or the
// context's error.
func (h *handle) wait(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = h.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	err := h.conn.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		return err == nil && n == 1
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// exit says how a process that has ended and is nobody's child here ended. A
// zombie's status is in its stat line, for whoever may signal it; once its parent
// has reaped it the pidfd still knows it, from Linux 6.15 on. On an older one it
// is lost when the parent was faster than this.
func (h *handle) exit(id Identity) Exit {
	e := Exit{Code: -1}
	for range 2 { // it may be reaped between the two looks
		if status, ok := h.zombieStatus(id); ok {
			return exitOfStatus(status)
		}
		info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
		var err error
		cerr := h.conn.Control(func(fd uintptr) { err = unix.IoctlPidfdInfo(int(fd), &info) })
		if cerr == nil && err == nil && info.Mask&unix.PIDFD_INFO_EXIT != 0 {
			return exitOfStatus(syscall.WaitStatus(info.Exit_code))
		}
	}
	return e
}

// zombieStatus reads how a zombie ended. The system shows a 0 to those who may
// not know, so nothing is read of a process that may not be signalled.
func (h *handle) zombieStatus(id Identity) (status syscall.WaitStatus, ok bool) {
	var err error
	if cerr := h.conn.Control(func(fd uintptr) { err = unix.PidfdSendSignal(int(fd), 0, nil, 0) }); cerr != nil || err != nil {
		return 0, false
	}
	line, err := os.ReadFile("/proc/" + strconv.Itoa(id.PID) + "/stat")
	if err != nil {
		return 0, false
	}
	st, err := parseStat(line)
	if err != nil || st.state != 'Z' || st.started != id.StartTime || !st.hasExit {
		return 0, false
	}
	return st.exit, true
}

// bootID is read once; it cannot change while a process lives.
var bootID = sync.OnceValues(func() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b)), err
})

// identify reads who has a pid now. A zombie has ended, but for zombieToo.
func identify(pid int, zombieToo bool) (Identity, error) {
	boot, err := bootID()
	if err != nil {
		return Identity{}, fmt.Errorf("read the boot id: %w", err)
	}
	if pid <= 0 {
		return Identity{}, ErrGone
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return Identity{}, ErrGone
	}
	if err != nil {
		return Identity{}, err
	}
	st, err := parseStat(stat)
	if err != nil {
		return Identity{}, fmt.Errorf("read /proc/%d/stat: %w", pid, err)
	}
	if (st.state == 'Z' || st.state == 'X') && !zombieToo {
		return Identity{}, ErrGone
	}
	return Identity{PID: pid, StartTime: st.started, BootID: boot}, nil
}

// statLine is what is read of /proc/PID/stat.
type statLine struct {
	state   byte   // field 3
	started uint64 // field 22, clock ticks since boot
	// exit is field 52, the wait status of a zombie. Linux before 3.5 has none.
	exit    syscall.WaitStatus
	hasExit bool
}

// parseStat reads a stat line. Field 2 is the program's name in brackets and may
// hold spaces and brackets itself.
func parseStat(line []byte) (st statLine, err error) {
	end := bytes.LastIndexByte(line, ')')
	if end < 0 {
		return st, errors.New("no program name")
	}
	fields := bytes.Fields(line[end+1:])
	const stateField, startField, exitField = 0, 22 - 3, 52 - 3 // counted from field 3
	if len(fields) <= startField || len(fields[stateField]) != 1 {
		return st, errors.New("too few fields")
	}
	st.state = fields[stateField][0]
	if st.started, err = strconv.ParseUint(string(fields[startField]), 10, 64); err != nil {
		return st, err
	}
	if len(fields) > exitField {
		code, err := strconv.ParseUint(string(fields[exitField]), 10, 32)
		if err != nil {
			return st, err
		}
		st.exit, st.hasExit = syscall.WaitStatus(code), true
	}
	return st, nil
}

// ticksPerSecond is the unit of start times, the same on every Linux.
const ticksPerSecond = 100

// StartedAt returns when a living process started, if it is of this boot. now is
// the present moment; the answer is exact to some hundredths of a second.
func (id Identity) StartedAt(now time.Time) (time.Time, bool) {
	boot, err := bootID()
	if err != nil || id.BootID != boot {
		return time.Time{}, false
	}
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err != nil {
		return time.Time{}, false
	}
	age := time.Duration(up.Nano()) - time.Duration(id.StartTime)*(time.Second/ticksPerSecond)
	return now.Add(-age), true
}
