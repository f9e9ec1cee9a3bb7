package proc

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"
)

// Fake is a machine for tests: its processes exist only as entries of a table,
// and end when the test, or a signal, says so.
//
// A Fake outlives controllers, as a machine does: give it to the next one after
// Close, and its processes are found but are nobody's children any more. How they
// end is told all the same, as a new Linux does; see Forgetful.
//
// All methods may be called concurrently.
type Fake struct {
	mu      sync.Mutex
	nextPID int
	procs   map[int]*fakeProcess
	ports   map[string]*PortError
	started []Spec
	refuse  map[string]error
	stubs   map[string]bool
	forgets bool
}

// FakeBootID is the boot id of every Fake.
const FakeBootID = "fake-boot"

// NewFake returns a machine on which nothing runs.
func NewFake() *Fake {
	return &Fake{
		nextPID: 1000,
		procs:   map[int]*fakeProcess{},
		ports:   map[string]*PortError{},
		refuse:  map[string]error{},
		stubs:   map[string]bool{},
	}
}

// Start implements Processes.
func (f *Fake) Start(spec Spec) (Process, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.refuse[spec.Node]; err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Node, err)
	}
	f.started = append(f.started, spec)
	f.nextPID++
	p := &fakeProcess{
		fake:  f,
		spec:  spec,
		id:    Identity{PID: f.nextPID, StartTime: uint64(f.nextPID) * 10, BootID: FakeBootID},
		donec: make(chan struct{}),
		child: true,
	}
	f.procs[p.id.PID] = p
	return p, nil
}

// Find implements Processes.
func (f *Fake) Find(id Identity) (Process, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.procs[id.PID]
	if p == nil || p.id != id {
		return nil, ErrGone
	}
	return p, nil
}

// Identify implements Processes.
func (f *Fake) Identify(pid int) (Identity, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p := f.procs[pid]; p != nil {
		return p.id, nil
	}
	return Identity{}, ErrGone
}

// CheckPort implements Processes: what TakePort said, else nil.
func (f *Fake) CheckPort(network, addr string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if pe := f.ports[network+" "+addr]; pe != nil {
		return pe
	}
	return nil
}

// Close implements Processes. The processes stay, and are no children any more.
func (f *Fake) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.procs {
		p.child = false
	}
}

// TakePort makes CheckPort refuse an address; pid and command name the holder.
// FreePort ends that.
func (f *Fake) TakePort(network, addr string, pid int, command string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ports[network+" "+addr] = &PortError{Network: network, Addr: addr, InUse: true, PID: pid, Command: command, Err: syscall.EADDRINUSE}
}

// FreePort lets an address be used again.
func (f *Fake) FreePort(network, addr string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.ports, network+" "+addr)
}

// Refuse makes every Start of a node fail with err; nil ends that.
func (f *Fake) Refuse(node string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refuse[node] = err
}

// Stubborn makes a node's processes ignore everything but SIGKILL.
func (f *Fake) Stubborn(node string, is bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stubs[node] = is
}

// Forgetful makes the machine tell only a process's parent how it ended, as an
// older kernel does.
func (f *Fake) Forgetful(is bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forgets = is
}

// Recycle gives a pid that nobody has to a new process of a node, as the system
// does with the pids of the dead. It reports whether the pid was free.
func (f *Fake) Recycle(pid int, node string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.procs[pid] != nil {
		return false
	}
	f.nextPID++
	f.procs[pid] = &fakeProcess{
		fake:  f,
		spec:  Spec{Node: node},
		id:    Identity{PID: pid, StartTime: uint64(f.nextPID) * 10, BootID: FakeBootID},
		donec: make(chan struct{}),
	}
	return true
}

// Exit ends the process of a node with an exit code. It reports whether there
// was one.
func (f *Fake) Exit(node string, code int) bool {
	return f.end(node, Exit{Known: true, Code: code})
}

func (f *Fake) end(node string, e Exit) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.procs {
		if p.spec.Node == node {
			p.endLocked(e)
			return true
		}
	}
	return false
}

// Running returns the pids of a node's living processes, rising.
func (f *Fake) Running(node string) []int {
	f.mu.Lock()
	defer f.mu.Unlock()
	var pids []int
	for pid, p := range f.procs {
		if p.spec.Node == node {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

// Started returns what was started, in order.
func (f *Fake) Started() []Spec {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.started)
}

// fakeProcess is a process of a Fake. The Fake's mutex guards exit and child
// until donec is closed.
type fakeProcess struct {
	fake  *Fake
	spec  Spec
	id    Identity
	donec chan struct{}
	exit  Exit
	child bool
}

func (p *fakeProcess) Identity() Identity    { return p.id }
func (p *fakeProcess) Done() <-chan struct{} { return p.donec }
func (p *fakeProcess) Exit() Exit            { return p.exit }

// Signal ends the process at once, but for SIGSTOP and SIGCONT, which change
// nothing. SIGTERM is answered by a clean exit.
func (p *fakeProcess) Signal(sig os.Signal) error {
	p.fake.mu.Lock()
	defer p.fake.mu.Unlock()
	if p.fake.procs[p.id.PID] != p {
		return ErrGone
	}
	if p.fake.stubs[p.spec.Node] && sig != syscall.SIGKILL {
		return nil
	}
	switch s := sig.(syscall.Signal); s {
	case syscall.SIGSTOP, syscall.SIGCONT:
	case syscall.SIGTERM:
		p.endLocked(Exit{Known: true})
	default:
		p.endLocked(Exit{Known: true, Code: -1, Signal: SignalName(s)})
	}
	return nil
}

func (p *fakeProcess) endLocked(e Exit) {
	delete(p.fake.procs, p.id.PID)
	if !p.child && p.fake.forgets {
		e = Exit{Code: -1}
	}
	p.exit = e
	close(p.donec)
}
