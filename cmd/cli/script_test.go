package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/wiber/wiber/timesvc"
)

// asProgram makes the test binary behave as wiberctl. The controller starts its
// nodes from a copy of its own executable, which is the test binary here.
const asProgram = "TEST_BINARY_IS_WIBERCTL"

func TestMain(m *testing.M) {
	program := func() { os.Exit(Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
	if os.Getenv(asProgram) != "" {
		program()
	}
	testscript.Main(m, map[string]func(){"wiberctl": program})
}

// TestScripts runs every story of testdata with the real program: controllers
// and nodes are processes. A script finds a three-node cluster.yaml and a
// one-node one.yaml with free ports (PORT1..PORT3, HTTP1..HTTP3), and
// GATEWAY_PORT set to a free port.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setUpScript,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"damage":     damage,
			"eventually": eventually,
			"occupy":     occupy,
			"release":    release,
		},
	})
}

func setUpScript(env *testscript.Env) error {
	ports, held, err := freePorts()
	if err != nil {
		return err
	}
	env.Defer(func() { held.Close() })
	env.Values[occupied{}] = new(listenerBox)
	env.Setenv(asProgram, "1")
	env.Setenv("NO_COLOR", "1")
	env.Setenv("GATEWAY_PORT", strconv.Itoa(ports.gateway))
	three, one := "nodes:\n", "apiVersion: wiber.dev/v1alpha1\nkind: Cluster\nmetadata: {name: one}\nspec:\n  nodes:\n"
	for i := range 3 {
		env.Setenv(fmt.Sprintf("PORT%d", i+1), strconv.Itoa(ports.node[i]))
		env.Setenv(fmt.Sprintf("HTTP%d", i+1), strconv.Itoa(ports.node[i]+200))
		line := fmt.Sprintf("  - {id: n%d, host: 127.0.0.1, port: %d}\n", i+1, ports.node[i])
		three += line
		if i == 0 {
			one += "  " + line
		}
	}
	for name, text := range map[string]string{"cluster.yaml": three, "one.yaml": one} {
		if err := os.WriteFile(filepath.Join(env.WorkDir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	env.Defer(func() { endProcessesIn(env.WorkDir) })
	return nil
}

type scriptPorts struct {
	gateway int
	node    [3]int
}

// freePorts looks for ports that nobody listens on and no other test takes,
// until held is closed.
func freePorts() (p scriptPorts, held io.Closer, err error) {
	for range 1000 {
		base, held, ok := takeBlock()
		if !ok {
			continue
		}
		p := scriptPorts{gateway: base + 9, node: [3]int{base, base + 1, base + 2}}
		free := isFree(p.gateway)
		for _, port := range p.node {
			for _, derived := range []int{0, 100, 200, 300} {
				free = free && isFree(port+derived)
			}
		}
		if free {
			return p, held, nil
		}
		held.Close()
	}
	return scriptPorts{}, nil, errors.New("no free ports were found")
}

// takeBlock takes a block of 400 ports, below those that the system gives to
// outgoing connections, for as long as the returned file is open: tests of
// several processes look for ports at the same time.
func takeBlock() (base int, held io.Closer, ok bool) {
	dir := filepath.Join(os.TempDir(), "wiber-test-ports")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return 0, nil, false
	}
	base = 11000 + 400*rand.IntN(47)
	f, err := os.OpenFile(filepath.Join(dir, strconv.Itoa(base)), os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return 0, nil, false
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return 0, nil, false
	}
	return base, f, true
}

func isFree(port int) bool {
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return false
	}
	l.Close()
	packets, err := net.ListenPacket("udp", addr) // a peer port is one of both
	if err != nil {
		return false
	}
	packets.Close()
	return true
}

// endProcessesIn kills what a script left running. Its controllers and nodes
// have the script's own folder in their arguments.
func endProcessesIn(folder string) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		arguments, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err == nil && strings.Contains(string(arguments), folder+string(filepath.Separator)) {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// eventually runs a program again and again until its standard output matches:
//
//	eventually 20s 'n1 +True' wiberctl get nodes
//
// With ! it waits until the output does not match any more.
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 3 {
		ts.Fatalf("usage: eventually DURATION REGEXP PROGRAM [ARGUMENT…]")
	}
	limit, err := time.ParseDuration(args[0])
	ts.Check(err)
	pattern, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	clock := timesvc.NewSystem(timesvc.Skew{})
	var out []byte
	for clock.Mono() < limit {
		cmd := exec.Command(args[2], args[3:]...)
		cmd.Dir = ts.MkAbs(".")
		cmd.Env = scriptEnviron(ts)
		if cmd.Path, err = lookPath(ts, args[2]); err != nil {
			ts.Fatalf("%v", err)
		}
		out, err = cmd.CombinedOutput()
		if pattern.Match(out) != neg && err == nil {
			return
		}
		ts.Check(pause(context.Background(), clock, 50*time.Millisecond))
	}
	ts.Fatalf("after %s %q is not so; the last output is\n%s", limit, args[1], out)
}

// scriptEnviron is the environment of a script's programs.
func scriptEnviron(ts *testscript.TestScript) []string {
	var env []string
	for _, name := range []string{asProgram, "NO_COLOR", "GATEWAY_PORT", "HOME", "PATH", "WORK"} {
		env = append(env, name+"="+ts.Getenv(name))
	}
	return env
}

// lookPath finds a program on the script's PATH, where wiberctl is.
func lookPath(ts *testscript.TestScript, name string) (string, error) {
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		if path := filepath.Join(dir, name); isExecutable(path) {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not on the PATH", name)
}

func isExecutable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// occupied is the key of a script's listener.
type occupied struct{}

type listenerBox struct{ io.Closer }

// occupy listens on a port of this machine, as another program would: by TCP, or
// by UDP on the peer port of a node that has this port.
func occupy(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) == 0 || len(args) > 2 || len(args) == 2 && args[1] != "peer-udp" {
		ts.Fatalf("usage: occupy PORT [peer-udp]")
	}
	var closer io.Closer
	var err error
	if len(args) == 1 {
		closer, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", args[0]))
	} else {
		port, bad := strconv.Atoi(args[0])
		ts.Check(bad)
		closer, err = net.ListenPacket("udp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port+100)))
	}
	ts.Check(err)
	ts.Defer(func() { closer.Close() })
	ts.Value(occupied{}).(*listenerBox).Closer = closer
}

// release gives the occupied port back.
func release(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Check(ts.Value(occupied{}).(*listenerBox).Close())
}

// damage changes one byte of a file.
func damage(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: damage FILE OFFSET")
	}
	offset, err := strconv.Atoi(args[1])
	ts.Check(err)
	path := ts.MkAbs(args[0])
	data, err := os.ReadFile(path)
	ts.Check(err)
	if offset >= len(data) {
		ts.Fatalf("%s has %d bytes", args[0], len(data))
	}
	data[offset] ^= 0xff
	ts.Check(os.WriteFile(path, data, 0o640))
}
