package proc

import (
	"fmt"
	"strings"
	"syscall"
)

// signals are those that a person may send to a node, by name without SIG.
var signals = []struct {
	name   string
	signal syscall.Signal
}{
	{"KILL", syscall.SIGKILL}, {"TERM", syscall.SIGTERM}, {"INT", syscall.SIGINT},
	{"QUIT", syscall.SIGQUIT}, {"ABRT", syscall.SIGABRT}, {"HUP", syscall.SIGHUP},
	{"SEGV", syscall.SIGSEGV}, {"STOP", syscall.SIGSTOP}, {"CONT", syscall.SIGCONT},
}

// ParseSignal returns the signal of a name such as KILL, SIGKILL or kill.
func ParseSignal(name string) (syscall.Signal, error) {
	want := strings.TrimPrefix(strings.ToUpper(name), "SIG")
	for _, s := range signals {
		if s.name == want {
			return s.signal, nil
		}
	}
	return 0, fmt.Errorf("unknown signal %q; one of %s", name, strings.Join(SignalNames(), " "))
}

// SignalNames are the names that ParseSignal takes, without SIG.
func SignalNames() []string {
	var names []string
	for _, s := range signals {
		names = append(names, s.name)
	}
	return names
}

// SignalName returns the name of a signal, as in "SIGKILL", or "signal 35".
func SignalName(sig syscall.Signal) string {
	for _, s := range signals {
		if s.signal == sig {
			return "SIG" + s.name
		}
	}
	return fmt.Sprintf("signal %d", int(sig))
}

// Ends reports whether a process that does nothing about it ends by a signal.
func Ends(sig syscall.Signal) bool { return sig != syscall.SIGSTOP && sig != syscall.SIGCONT }
