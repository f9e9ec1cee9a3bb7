package proc

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
)

// ErrGone means that the process that was meant does not live any more: it has
// ended, is a zombie, or its pid belongs to another process now.
var ErrGone = errors.New("proc: the process has ended")

// Identity says which process is meant, also after its pid was given away.
type Identity struct {
	PID int `json:"pid"`
	// StartTime is when the process started, in units of the system: clock ticks
	// since boot on Linux (field 22 of /proc/PID/stat).
	StartTime uint64 `json:"startTime"`
	// BootID differs between any two boots of the machine.
	BootID string `json:"bootId"`
}

// String returns "pid 4711".
func (id Identity) String() string { return "pid " + strconv.Itoa(id.PID) }

// Spec is a process to start.
type Spec struct {
	// Node is the name of the node, for errors and for Fake's scripts.
	Node string
	// Executable is the absolute path of the program; it is not looked up in PATH.
	Executable string
	// Args are the arguments without the program's name.
	Args []string
	// Env is the environment; nil means that of this process.
	Env []string
	// LogFile becomes standard output and standard error. A file of that name
	// that holds something is renamed first (see OpenLog). Its folder is made.
	LogFile string
}

// Exit says how a process ended.
type Exit struct {
	// Known is false when it is certain that the process ended, but not how. That
	// may be so for one that was not a child of this process: Linux tells how it
	// ended while nobody has reaped it, and from 6.15 on also afterwards; macOS
	// tells only its parent.
	Known bool
	// Code is the exit code; -1 when a signal ended it or it is not known.
	Code int
	// Signal is the name of the signal that ended it, as in "SIGKILL"; else empty.
	Signal string
}

// String returns "exit code 1", "signal SIGKILL" or "unknown exit code".
func (e Exit) String() string {
	switch {
	case !e.Known:
		return "unknown exit code"
	case e.Signal != "":
		return "signal " + e.Signal
	}
	return "exit code " + strconv.Itoa(e.Code)
}

// Process is a process that lived when it was returned. All methods may be
// called concurrently.
type Process interface {
	// Identity says which process it is.
	Identity() Identity
	// Signal sends a signal; ErrGone when the process has ended.
	Signal(os.Signal) error
	// Done is closed when the process has ended. A process whose Processes was
	// closed may never close it.
	Done() <-chan struct{}
	// Exit says how the process ended. It is valid once Done is closed.
	Exit() Exit
}

// Processes starts and finds processes. OS is the real one, Fake the one for
// tests. All methods may be called concurrently.
type Processes interface {
	// Start starts a process in a session of its own. The process goes on when
	// this one ends.
	Start(Spec) (Process, error)
	// Find returns the living process with exactly this identity, whoever
	// started it; ErrGone when there is none.
	Find(Identity) (Process, error)
	// Identify returns the identity of the living process with a pid; ErrGone
	// when there is none.
	Identify(pid int) (Identity, error)
	// CheckPort says whether an address can be listened on, by "tcp" or by "udp":
	// nil, or a *PortError.
	CheckPort(network, addr string) error
	// Close forgets all processes and ends none of them. It returns when its
	// goroutines have ended.
	Close()
}

// PortError says why an address cannot be listened on.
type PortError struct {
	// Network is "tcp" or "udp", and Addr the address, host and port.
	Network, Addr string
	// InUse is set when something listens there, as opposed to an address that
	// this machine does not have or that it must not use.
	InUse bool
	// PID and Command name who listens there; 0 and "" when that cannot be found.
	PID     int
	Command string
	Err     error
}

// Error names the address and, if known, the holder.
func (e *PortError) Error() string {
	_, port, err := net.SplitHostPort(e.Addr)
	if err != nil {
		port = e.Addr
	}
	what := "port"
	if e.Network == "udp" {
		what = "UDP port"
	}
	switch {
	case !e.InUse:
		return fmt.Sprintf("address %s cannot be used: %v", e.Addr, e.Err)
	case e.PID != 0:
		return fmt.Sprintf("%s %s is in use by pid %d (%s)", what, port, e.PID, e.Command)
	}
	return fmt.Sprintf("%s %s is in use by another program", what, port)
}

func (e *PortError) Unwrap() error { return e.Err }
