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
	state, started, err := parseStat(stat)
	if err != nil {
		return Identity{}, fmt.Errorf("read /proc/%d/stat: %w", pid, err)
	}
	if (state == 'Z' || state == 'X') && !zombieToo {
		return Identity{}, ErrGone
	}
	return Identity{PID: pid, StartTime: started, BootID: boot}, nil
}

// parseStat returns fields 3 (state) and 22 (start time) of a stat line. Field
// 2 is the program's name in brackets and may hold spaces and brackets itself.
func parseStat(line []byte) (state byte, started uint64, err error) {
	end := bytes.LastIndexByte(line, ')')
	if end < 0 {
		return 0, 0, errors.New("no program name")
	}
	fields := bytes.Fields(line[end+1:])
	const stateField, startField = 0, 22 - 3 // counted from field 3
	if len(fields) <= startField || len(fields[stateField]) != 1 {
		return 0, 0, errors.New("too few fields")
	}
	started, err = strconv.ParseUint(string(fields[startField]), 10, 64)
	return fields[stateField][0], started, err
}
