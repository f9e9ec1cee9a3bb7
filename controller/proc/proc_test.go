package proc

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestOpenLogKeepsWhatWasThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "logs", "console.log")
	write := func(text string) {
		t.Helper()
		f, err := OpenLog(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	write("first")
	write("") // an empty log is used again, not set aside
	write("second")
	write("third")
	// Not of our making: they must neither be counted nor removed.
	for _, name := range []string{"console.x.log", "console.07.log", "other.1.log"} {
		if err := os.WriteFile(filepath.Join(filepath.Dir(path), name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"console.log": "third", "console.1.log": "first", "console.2.log": "second"} {
		if got, err := os.ReadFile(filepath.Join(filepath.Dir(path), name)); string(got) != want {
			t.Errorf("%s holds %q (%v), want %q", name, got, err, want)
		}
	}
	for i := range 2 * KeptLogs {
		write(strconv.Itoa(i))
	}
	numbers, err := oldLogs(path)
	if err != nil || len(numbers) != KeptLogs || numbers[KeptLogs-1] != 2+2*KeptLogs {
		t.Errorf("kept %v, %v", numbers, err)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(path), "console.07.log")); err != nil {
		t.Error(err)
	}
}

func TestParseSignal(t *testing.T) {
	for name, want := range map[string]syscall.Signal{
		"KILL": syscall.SIGKILL, "SIGTERM": syscall.SIGTERM, "stop": syscall.SIGSTOP, "sigcont": syscall.SIGCONT,
	} {
		if got, err := ParseSignal(name); got != want || err != nil {
			t.Errorf("ParseSignal(%q) = %v, %v; want %v", name, got, err, want)
		}
	}
	for _, name := range []string{"", "SIG", "NOPE", "9", "KILL "} {
		if _, err := ParseSignal(name); err == nil || !strings.Contains(err.Error(), "KILL") {
			t.Errorf("ParseSignal(%q): error %v must list the names", name, err)
		}
	}
}

// taken listens by each network, on a port that the system chooses.
var taken = map[string]func(*testing.T) (addr string, _ io.Closer){
	"tcp": func(t *testing.T) (string, io.Closer) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return l.Addr().String(), l
	},
	"udp": func(t *testing.T) (string, io.Closer) {
		l, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return l.LocalAddr().String(), l
	},
}

func TestATakenPortNamesItsHolder(t *testing.T) {
	o := NewOS()
	defer o.Close()
	for network, listen := range taken {
		addr, closer := listen(t)
		err := o.CheckPort(network, addr)
		pe, ok := err.(*PortError)
		if !ok || !pe.InUse {
			t.Fatalf("%s: CheckPort = %v", network, err)
		}
		_, port, _ := net.SplitHostPort(addr)
		if !strings.Contains(err.Error(), "port "+port) || strings.Contains(err.Error(), "UDP") != (network == "udp") {
			t.Errorf("%s: %q does not name the port", network, err)
		}
		if pe.PID != 0 && pe.PID != os.Getpid() {
			t.Errorf("%s: holder is pid %d, want this process %d", network, pe.PID, os.Getpid())
		}
		if err := closer.Close(); err != nil {
			t.Fatal(err)
		}
		if err := o.CheckPort(network, addr); err != nil {
			t.Errorf("%s: CheckPort of a free port = %v", network, err)
		}
		if err := o.CheckPort(network, "192.0.2.1:9101"); err == nil || err.(*PortError).InUse {
			t.Errorf("%s: CheckPort of an address of another machine = %v", network, err)
		}
	}
}

// The logs of earlier incarnations are bounded in bytes too, but for the newest.
func TestOldLogsAreBoundedInSize(t *testing.T) {
	path := filepath.Join(t.TempDir(), "console.log")
	for range 4 {
		f, err := OpenLog(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Truncate(KeptLogBytes/2 + 1); err != nil { // sparse: it takes no space
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	files, err := LogFiles(path)
	if err != nil || len(files) != 2 || files[0] != path || filepath.Base(files[1]) != "console.3.log" {
		t.Errorf("LogFiles = %v, %v", files, err)
	}
	if files, err := LogFiles(filepath.Join(t.TempDir(), "none", "console.log")); len(files) != 0 || err != nil {
		t.Errorf("LogFiles of a node that never ran = %v, %v", files, err)
	}
}

// A process keeps its log from before it exists until it has ended, whoever
// started it and whether that one lives.
func TestALogThatIsWrittenToIsNotTaken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "console.log")
	first := NewOS()
	p, err := first.Start(Spec{Node: "n1", Executable: "/bin/sh", Args: []string{"-c", "echo first; exec sleep 1000"}, LogFile: path})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, func() bool {
		st, err := os.Stat(path)
		return err == nil && st.Size() > 0
	})
	first.Close() // nobody knows the process any more
	second := NewOS()
	defer second.Close()
	if _, err := second.Start(Spec{Node: "n1", Executable: "/bin/sh", Args: []string{"-c", "echo second"}, LogFile: path}); !errors.Is(err, ErrLogInUse) {
		t.Fatalf("a second process: %v", err)
	}
	if files, err := LogFiles(path); err != nil || len(files) != 1 {
		t.Errorf("the log was moved away: %v, %v", files, err)
	}
	found, err := second.Find(p.Identity())
	if err != nil {
		t.Fatal(err)
	}
	if err := found.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-found.Done()
	f, err := OpenLog(path)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if files, err := LogFiles(path); err != nil || len(files) != 2 {
		t.Errorf("LogFiles = %v, %v", files, err)
	}
}
