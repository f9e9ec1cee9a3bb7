package proc

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// machine is a Processes under test, with what the contract needs to know.
type machine struct {
	Processes
	// sleeper lives until it gets a signal; exits ends by itself with code 7.
	sleeper, exits func(t *testing.T) Process
	// second is another Processes of the same machine.
	second func() Processes
}

func machines(t *testing.T) map[string]machine {
	o := NewOS()
	t.Cleanup(o.Close)
	shell := func(script string) func(t *testing.T) Process {
		return func(t *testing.T) Process {
			p, err := o.Start(Spec{Node: "n1", Executable: "/bin/sh", Args: []string{"-c", script},
				LogFile: filepath.Join(t.TempDir(), "logs", "console.log")})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = p.Signal(syscall.SIGKILL); <-p.Done() })
			return p
		}
	}
	f := NewFake()
	fake := func(t *testing.T) Process {
		p, err := f.Start(Spec{Node: t.Name()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.Signal(syscall.SIGKILL) })
		return p
	}
	return map[string]machine{
		"OS": {o, shell("exec sleep 1000"), shell("exit 7"), func() Processes {
			second := NewOS()
			t.Cleanup(second.Close)
			return second
		}},
		"Fake": {f, fake, func(t *testing.T) Process {
			p := fake(t)
			f.Exit(t.Name(), 7)
			return p
		}, func() Processes { f.Close(); return f }},
	}
}

func TestContract(t *testing.T) {
	for name, m := range machines(t) {
		t.Run(name, func(t *testing.T) {
			t.Run("a living process is found by its whole identity only", func(t *testing.T) {
				p := m.sleeper(t)
				id := p.Identity()
				if id.PID <= 0 || id.StartTime == 0 || id.BootID == "" {
					t.Fatalf("incomplete identity %+v", id)
				}
				if got, err := m.Identify(id.PID); err != nil || got != id {
					t.Fatalf("Identify = %+v, %v; want %+v", got, err, id)
				}
				found, err := m.Find(id)
				if err != nil || found.Identity() != id {
					t.Fatalf("Find = %v, %v", found, err)
				}
				for _, other := range []Identity{
					{id.PID, id.StartTime + 1, id.BootID},
					{id.PID, id.StartTime, "another boot"},
					{0, id.StartTime, id.BootID},
					{-1, id.StartTime, id.BootID},
				} {
					if _, err := m.Find(other); !errors.Is(err, ErrGone) {
						t.Errorf("Find(%+v) = %v, want ErrGone", other, err)
					}
				}
			})
			t.Run("an exit code is told and a dead process takes no signal", func(t *testing.T) {
				p := m.exits(t)
				<-p.Done()
				if got, want := p.Exit(), (Exit{Known: true, Code: 7}); got != want {
					t.Fatalf("Exit = %+v, want %+v", got, want)
				}
				if err := p.Signal(syscall.SIGKILL); !errors.Is(err, ErrGone) {
					t.Errorf("Signal = %v, want ErrGone", err)
				}
				if _, err := m.Find(p.Identity()); !errors.Is(err, ErrGone) {
					t.Errorf("Find = %v, want ErrGone", err)
				}
				if _, err := m.Identify(p.Identity().PID); !errors.Is(err, ErrGone) {
					t.Errorf("Identify = %v, want ErrGone", err)
				}
			})
			t.Run("a signal that ends a process is named", func(t *testing.T) {
				p := m.sleeper(t)
				if err := p.Signal(syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
				<-p.Done()
				if got, want := p.Exit(), (Exit{Known: true, Code: -1, Signal: "SIGKILL"}); got != want {
					t.Fatalf("Exit = %+v, want %+v", got, want)
				}
			})
			t.Run("another's process is seen to end, and how if the system tells", func(t *testing.T) {
				p := m.sleeper(t)
				found, err := m.second().Find(p.Identity())
				if err != nil {
					t.Fatal(err)
				}
				if err := found.Signal(syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
				<-found.Done()
				if got := found.Exit(); got != (Exit{Code: -1}) && got != (Exit{Known: true, Code: -1, Signal: "SIGKILL"}) {
					t.Fatalf("Exit = %+v", got)
				}
			})
		})
	}
}

// A zombie has a pid and a stat line, but it has ended.
func TestAZombieHasEnded(t *testing.T) {
	cmd, err := start(Spec{Node: "n1", Executable: "/bin/sh", Args: []string{"-c", "exit 0"},
		LogFile: filepath.Join(t.TempDir(), "console.log")})
	if err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	id, err := identify(cmd.Process.Pid, true) // nobody reaps it yet
	if err != nil {
		t.Fatal(err)
	}
	o := NewOS()
	defer o.Close()
	eventually(t, 10*time.Second, func() bool {
		_, err := identify(id.PID, false)
		return errors.Is(err, ErrGone)
	})
	if _, err := identify(id.PID, true); err != nil {
		t.Fatalf("the zombie is not there at all: %v", err)
	}
	if _, err := o.Find(id); !errors.Is(err, ErrGone) {
		t.Fatalf("Find = %v, want ErrGone", err)
	}
}

// Whoever forgets its processes leaves them running; the next one finds them.
func TestProcessesOutliveClose(t *testing.T) {
	first := NewOS()
	p, err := first.Start(Spec{Node: "n1", Executable: "/bin/sh", Args: []string{"-c", "exec sleep 1000"},
		LogFile: filepath.Join(t.TempDir(), "console.log")})
	if err != nil {
		t.Fatal(err)
	}
	first.Close()
	second := NewOS()
	defer second.Close()
	found, err := second.Find(p.Identity())
	if err != nil {
		t.Fatal(err)
	}
	if err := found.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-found.Done()
}

func TestAProcessHasASessionAndWritesToItsLog(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("reads its session from /proc")
	}
	o := NewOS()
	defer o.Close()
	log := filepath.Join(t.TempDir(), "n1", "logs", "console.log")
	for range 2 {
		p, err := o.Start(Spec{Node: "n1", Executable: "/bin/sh", LogFile: log,
			Args: []string{"-c", `read line; echo "out $FOO [$line]"; echo err >&2; cut -d' ' -f1,6 /proc/$$/stat`},
			Env:  []string{"PATH=" + os.Getenv("PATH"), "FOO=bar"}})
		if err != nil {
			t.Fatal(err)
		}
		<-p.Done()
		got, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		pid := p.Identity().String()[len("pid "):]
		if want := "out bar []\nerr\n" + pid + " " + pid + "\n"; string(got) != want {
			t.Fatalf("log is %q, want %q", got, want)
		}
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(log), "console.1.log")); err != nil {
		t.Fatalf("the first incarnation's log: %v", err)
	}
}

func TestStartOfAMissingProgramIsAnError(t *testing.T) {
	o := NewOS()
	defer o.Close()
	_, err := o.Start(Spec{Node: "n1", Executable: "/nonexistent/wiberctl", LogFile: filepath.Join(t.TempDir(), "console.log")})
	if !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("err = %v", err)
	}
}

// eventually waits for a real process: cond is asked until it holds.
func eventually(t *testing.T, deadline time.Duration, cond func() bool) {
	t.Helper()
	late := time.After(deadline)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-late:
			t.Fatal("it did not happen in time")
		case <-tick.C:
		}
	}
}
