package proc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// orphan starts a shell that is nobody's child here: it is a child of this
// process that nobody waits for, until reap is called.
func orphan(t *testing.T, script string) (id Identity, reap func()) {
	t.Helper()
	cmd, err := start(Spec{Node: "n1", Executable: "/bin/sh", Args: []string{"-c", script}, LogFile: filepath.Join(t.TempDir(), "console.log")})
	if err != nil {
		t.Fatal(err)
	}
	if id, err = identify(cmd.Process.Pid, true); err != nil {
		t.Fatal(err)
	}
	return id, func() { _ = cmd.Wait() }
}

// How a process ended is known to who is not its parent: before it is reaped.
func TestTheExitOfAnothersZombieIsKnown(t *testing.T) {
	for script, want := range map[string]Exit{
		"exit 7":        {Known: true, Code: 7},
		"exit 0":        {Known: true, Code: 0},
		"exit 78":       {Known: true, Code: 78},
		"kill -TERM $$": {Known: true, Code: -1, Signal: "SIGTERM"},
		"kill -KILL $$": {Known: true, Code: -1, Signal: "SIGKILL"},
	} {
		t.Run(script, func(t *testing.T) {
			o := NewOS()
			defer o.Close()
			found := filepath.Join(t.TempDir(), "found")
			id, reap := orphan(t, "while [ ! -e '"+found+"' ]; do sleep 0.01; done; "+script)
			defer reap()
			p, err := o.Find(id)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(found, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			<-p.Done()
			if got := p.Exit(); got != want {
				t.Errorf("Exit = %+v, want %+v", got, want)
			}
		})
	}
}

// And after it is reaped, where the kernel keeps it.
func TestTheExitOfAReapedProcess(t *testing.T) {
	id, reap := orphan(t, "exit 7")
	h, err := openHandle(id)
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	reap()
	want := Exit{Code: -1}
	if keepsExits(t) {
		want = Exit{Known: true, Code: 7}
	}
	if got := h.exit(id); got != want {
		t.Errorf("exit = %+v, want %+v", got, want)
	}
	if err := h.signal(syscall.SIGKILL); !errors.Is(err, ErrGone) {
		t.Errorf("signal = %v, want ErrGone", err)
	}
}

// keepsExits says whether this is Linux 6.15 or newer.
func keepsExits(t *testing.T) bool {
	t.Helper()
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		t.Fatal(err)
	}
	var major, minor int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(uts.Release[:]), "%d.%d", &major, &minor); err != nil {
		t.Fatal(err)
	}
	return major > 6 || major == 6 && minor >= 15
}

func TestStartedAt(t *testing.T) {
	id, reap := orphan(t, "exit 0")
	defer reap()
	now := time.Now()
	at, ok := id.StartedAt(now)
	if d := now.Sub(at); !ok || d < -50*time.Millisecond || d > 10*time.Second {
		t.Errorf("StartedAt = %v before now, %v", d, ok)
	}
	id.BootID = "another boot"
	if _, ok := id.StartedAt(now); ok {
		t.Error("the start time of another boot means something")
	}
}
