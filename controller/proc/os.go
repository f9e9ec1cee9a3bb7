package proc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
)

// OS starts and finds processes of this machine.
//
// One goroutine per process waits for its end; it owns the exit of the process
// and ends with the process or with Close.
type OS struct {
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// NewOS returns the processes of this machine. Close it.
func NewOS() *OS {
	ctx, cancel := context.WithCancel(context.Background())
	return &OS{ctx: ctx, cancel: cancel}
}

// Close implements Processes.
func (o *OS) Close() {
	o.cancel()
	o.wg.Wait()
}

// Start implements Processes. The first thing that the new process writes is
// in spec.LogFile; its standard input is empty.
func (o *OS) Start(spec Spec) (Process, error) {
	cmd, err := start(spec)
	if err != nil {
		return nil, err
	}
	// The child is reaped only by the goroutine below, so its pid cannot have
	// been given away yet, even if it has ended.
	id, err := identify(cmd.Process.Pid, true)
	if err == nil {
		var h *handle
		if h, err = openHandle(id); err == nil {
			return o.watch(id, h, cmd), nil
		}
	}
	return nil, errors.Join(fmt.Errorf("watch the new process of %s: %w", spec.Node, err), cmd.Process.Kill(), cmd.Wait())
}

// StartDetached starts a process as OS.Start does and forgets it: nobody waits
// for its end but the system, once this process has ended. It returns the pid.
func StartDetached(spec Spec) (int, error) {
	cmd, err := start(spec)
	if err != nil {
		return 0, err
	}
	pid := cmd.Process.Pid
	return pid, cmd.Process.Release()
}

func start(spec Spec) (*exec.Cmd, error) {
	log, err := OpenLog(spec.LogFile)
	if err != nil {
		return nil, fmt.Errorf("open the log of %s: %w", spec.Node, err)
	}
	defer log.Close()
	cmd := &exec.Cmd{
		Path:        spec.Executable,
		Args:        append([]string{spec.Executable}, spec.Args...),
		Env:         spec.Env,
		Stdout:      log,
		Stderr:      log,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Node, err)
	}
	return cmd, nil
}

// Find implements Processes. How such a process ends is known as far as the
// system tells those who are not its parent; see Exit.Known.
func (o *OS) Find(id Identity) (Process, error) {
	if err := is(id); err != nil {
		return nil, err
	}
	h, err := openHandle(id)
	if err != nil {
		return nil, err
	}
	// Compared once more, now that the handle is open: if it is the right process
	// still, the handle cannot mean another one.
	if err := is(id); err != nil {
		h.close()
		return nil, err
	}
	return o.watch(id, h, nil), nil
}

// is returns ErrGone unless the process with this identity lives.
func is(id Identity) error {
	now, err := identify(id.PID, false)
	if err == nil && now != id {
		return ErrGone
	}
	return err
}

// Identify implements Processes.
func (o *OS) Identify(pid int) (Identity, error) { return identify(pid, false) }

// CheckPort implements Processes: it listens for a moment.
func (o *OS) CheckPort(network, addr string) error {
	l, err := listen(o.ctx, network, addr)
	if err == nil {
		return l.Close()
	}
	return DescribePort(network, addr, err)
}

func listen(ctx context.Context, network, addr string) (io.Closer, error) {
	if network == "udp" {
		return new(net.ListenConfig).ListenPacket(ctx, network, addr)
	}
	return new(net.ListenConfig).Listen(ctx, network, addr)
}

// DescribePort turns the error of listening on an address, by "tcp" or "udp",
// into a *PortError that names who listens there, if that can be found.
func DescribePort(network, addr string, err error) *PortError {
	pe := &PortError{Network: network, Addr: addr, Err: err, InUse: errors.Is(err, syscall.EADDRINUSE)}
	if pe.InUse {
		pe.PID, pe.Command = holder(network, addr)
	}
	return pe
}

// watch makes the Process and starts the goroutine that sees it end. cmd is
// nil when the process is not a child.
func (o *OS) watch(id Identity, h *handle, cmd *exec.Cmd) *osProcess {
	p := &osProcess{id: id, handle: h, donec: make(chan struct{})}
	o.wg.Go(func() {
		defer h.close()
		if err := h.wait(o.ctx); err != nil {
			return // closed: the process lives on, unwatched
		}
		if cmd != nil {
			_ = cmd.Wait() // what it says is in the state
			p.exit = exitOf(cmd.ProcessState)
		} else {
			p.exit = h.exit(id)
		}
		close(p.donec)
	})
	return p
}

func exitOf(st *os.ProcessState) Exit {
	if st == nil {
		return Exit{Code: -1}
	}
	if ws, ok := st.Sys().(syscall.WaitStatus); ok {
		return exitOfStatus(ws)
	}
	return Exit{Known: true, Code: st.ExitCode()}
}

func exitOfStatus(ws syscall.WaitStatus) Exit {
	if ws.Signaled() {
		return Exit{Known: true, Code: -1, Signal: SignalName(ws.Signal())}
	}
	return Exit{Known: true, Code: ws.ExitStatus()}
}

// osProcess is a process of the machine. Its watcher writes exit once, before
// it closes donec.
type osProcess struct {
	id     Identity
	handle *handle
	donec  chan struct{}
	exit   Exit
}

func (p *osProcess) Identity() Identity    { return p.id }
func (p *osProcess) Done() <-chan struct{} { return p.donec }
func (p *osProcess) Exit() Exit            { return p.exit }

func (p *osProcess) Signal(sig os.Signal) error {
	s, ok := sig.(syscall.Signal)
	if !ok {
		return fmt.Errorf("proc: %v is no signal of this system", sig)
	}
	return p.handle.signal(s)
}
