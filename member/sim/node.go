package sim

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/wiber/wiber/member"
	"github.com/wiber/wiber/raftnode"
	"github.com/wiber/wiber/raftnode/transport"
	"github.com/wiber/wiber/raftnode/vfs"
	"github.com/wiber/wiber/raftnode/wal"
	"github.com/wiber/wiber/topics/store"
)

const (
	tickEvery = 100 * time.Millisecond
	idleAfter = 100 * time.Millisecond
	logDir    = "log"
	stateDir  = "state"
)

// node is one node of the world: what survives its death, and what does not.
type node struct {
	w    *world
	name string
	id   uint64 // its place in the file, and its raft id

	// These survive.
	disk     *vfs.Mem
	faults   *vfs.Fault // in front of disk, until the process ends
	meta     *store.Mem
	identity member.Identity
	skew     time.Duration // of its clock

	// These do not. life grows with every death: events of an earlier life are
	// void.
	life    uint64
	up      bool
	paused  bool // SIGSTOP: nothing runs, what comes is kept
	kept    []func()
	boot    *member.Bootstrap
	engine  *member.Engine
	log     *wal.WAL
	link    *transport.MemNode
	woken   bool
	held    bool
	applyAt []time.Duration // when each group's apply loop is free
	idleAt  uint64          // number of appends, for the idle frame
}

// do runs f as the node, unless the node has died since; a paused node does it
// when it goes on.
func (n *node) do(f func()) func() {
	life := n.life
	return func() {
		switch {
		case n.life != life || !n.up:
		case n.paused:
			n.kept = append(n.kept, f)
		default:
			f()
		}
	}
}

func (n *node) after(d time.Duration, f func()) { n.w.after(d, n.do(f)) }

// start starts the node's process: join if the folder is empty, else recover.
func (n *node) start() {
	n.life++
	n.up, n.paused, n.kept, n.woken, n.held = true, false, nil, false, false
	if n.identity.Member != nil {
		n.recover()
		return
	}
	if n.identity.UID == "" {
		n.identity = member.Identity{Node: n.name, UID: member.UID(n.w.drawID())}
	}
	n.boot = member.NewBootstrap(member.BootstrapConfig{Self: n.identity, Cluster: "sim", Shards: n.w.o.Shards,
		Forming: n.w.names(), All: n.w.names(), Draw: func() (string, member.Secret) { return n.w.drawID(), member.Secret{1} }})
	n.boot.Start()
	n.ask()
}

// ask carries the questions of an empty folder, until it has joined.
func (n *node) ask() {
	if n.boot == nil {
		return
	}
	for _, name := range n.boot.Peers() {
		peer := n.w.byName(name)
		n.after(n.w.between(time.Millisecond, 5*time.Millisecond), func() {
			if n.boot == nil {
				return
			}
			if !peer.up || peer.paused {
				n.boot.Lost(name)
				return
			}
			n.boot.Handle(name, peer.reply())
			n.joined()
		})
	}
	n.joined()
	n.after(200*time.Millisecond, n.ask)
}

func (n *node) reply() member.Answer {
	a := member.Answer{Cluster: "sim", Node: n.name, UID: n.identity.UID, Member: n.identity.Member}
	if n.engine != nil {
		a.Member = n.engine.Membership()
	}
	if n.boot != nil {
		a.Forming = n.boot.Ask().Forming
	}
	return a
}

// joined syncs what the bootstrap decided and goes on as a member.
func (n *node) joined() {
	if n.boot == nil {
		return
	}
	if err := n.boot.Err(); err != nil {
		n.refused(err)
		return
	}
	if m := n.boot.Decided(); m != nil {
		n.identity.Member = m
		n.boot = nil
		n.recover()
	}
}

// refused is a node that says that it must not run.
func (n *node) refused(err error) {
	n.w.checks.refused(n, err)
	n.die()
}

// recover opens the log and the checkpoint and starts the engine.
func (n *node) recover() {
	n.boot = nil
	n.identity.Counter++
	n.faults = vfs.NewFault(n.disk)
	log, err := member.OpenLog(n.meta, wal.Options{FS: n.faults, Dir: logDir, Rand: reader{rand.New(rand.NewPCG(n.w.rnd.Uint64(), n.id))},
		SegmentBytes: n.w.o.SegmentBytes, FirstSegmentBytes: n.w.o.SegmentBytes / 2, TailBytes: 64 << 10})
	if err != nil {
		n.openFailed(err)
		return
	}
	n.log = log
	rec := log.Recovered()
	if rec.TornBytes > 0 {
		n.w.report.TornTails++
	}
	n.w.checks.recovered(n, log)
	n.link = n.w.net.Attach(n.id, n.receiver())
	e, err := member.NewEngine(member.EngineConfig{
		Identity: n.identity, Log: log, Transport: spy{n}, Meta: n.meta, FS: n.faults, Dir: stateDir,
		Reference: func() (int64, int64) { return n.clock(), -1 },
		Mono:      func() time.Duration { return n.w.now },
		Wake:      n.wake, Logger: slog.New(slog.DiscardHandler),
		ElectionTicks: 10, HeartbeatTicks: 1, DedupIDs: n.w.o.DedupIDs, AutoCreateTopics: true,
	})
	if err != nil {
		n.openFailed(err)
		return
	}
	n.engine = e
	n.applyAt = make([]time.Duration, n.w.o.Shards+1)
	n.w.note(1, n.id, n.life)
	n.after(n.w.between(0, tickEvery), n.tick)
	n.after(n.w.between(0, tickEvery), n.settle)
	n.wake()
}

// openFailed is a start that ended with an error.
func (n *node) openFailed(err error) {
	if errors.Is(err, vfs.ErrPowerOff) {
		n.powerCut()
		return
	}
	n.w.checks.openFailed(n, err)
	n.die()
}

// clock is the node's reference time in microseconds.
func (n *node) clock() int64 {
	return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro() + (n.w.now + n.skew).Microseconds()
}

func (n *node) receiver() transport.Receiver {
	return transport.Receiver{
		OnMessage: func(from uint64, m transport.Message) {
			n.do(func() {
				if n.engine == nil {
					return
				}
				if m.Kind != transport.KindRaft {
					n.engine.Receive(from, m)
				} else if err := n.engine.Step(m); err != nil {
					n.w.checks.fail("%s refuses a message of %d: %v", n.name, from, err)
				}
				n.wake()
			})()
		},
		OnUp:   func(peer uint64) { n.do(func() { n.engine.PeerUp(peer); n.wake() })() },
		OnDown: func(peer uint64) { n.do(func() { n.engine.PeerDown(peer); n.wake() })() },
	}
}

func (n *node) tick() {
	n.engine.Tick()
	n.w.checks.leaders(n)
	n.askSafe()
	n.wake()
	n.after(tickEvery, n.tick)
}

// askSafe is a subscriber that waits for a shard's safe time: it holds the node
// to what that says, now and when it has come.
func (n *node) askSafe() {
	if n.w.o.Shards == 0 || !n.w.chance(0.5) {
		return
	}
	g := raftnode.GroupID(1 + n.w.rnd.IntN(n.w.o.Shards))
	look := func() { n.w.checks.promise(n, g) }
	look()
	stop := n.engine.AwaitSafe(uint64(g), uint64(n.clock()+n.w.rnd.Int64N(200_000)-100_000), n.do(look))
	n.after(n.w.between(time.Millisecond, 300*time.Millisecond), func() {
		stop()
		look()
	})
}

// wake schedules the raft loop's next round.
func (n *node) wake() {
	if !n.woken {
		n.woken = true
		n.after(0, func() {
			n.woken = false
			n.pump()
		})
	}
}

// pump is one round of the raft loop; the slow work gets a time of its own.
func (n *node) pump() {
	if n.engine == nil {
		return
	}
	w := n.engine.Pump()
	if w.Append != nil {
		n.after(n.w.diskDelay(), func() { n.append(w.Append) })
	}
	for _, a := range w.Apply {
		at := max(n.applyAt[a.Group], n.w.now) + n.w.between(20*time.Microsecond, 2*time.Millisecond)
		n.applyAt[a.Group] = at
		n.after(at-n.w.now, func() { n.apply(a) })
	}
	if w.Held && !n.held {
		n.held = true
		n.after(time.Millisecond, func() {
			n.held = false
			n.engine.Release()
			n.wake()
		})
	}
}

func (n *node) append(recs []wal.Record) {
	if err := n.engine.Append(recs); err != nil {
		n.fatal("append", err)
		return
	}
	n.w.checks.appended(n, recs)
	n.engine.Appended()
	n.idleAt++
	number := n.idleAt
	n.after(idleAfter, func() {
		if n.idleAt == number {
			if err := n.log.Idle(); err != nil {
				n.fatal("idle", err)
			}
		}
	})
	if n.log.NeedsSpare() {
		n.after(n.w.diskDelay()*10, func() {
			if err := n.log.PrepareSpare(); errors.Is(err, vfs.ErrPowerOff) {
				n.powerCut()
			}
		})
	}
	n.wake()
}

// settle is the settle loop: index files and checkpoints.
func (n *node) settle() {
	done, err := n.engine.Settle()
	switch {
	case err != nil:
		n.fatal("settle", err)
	case done:
		n.w.report.Settled++
		n.after(n.w.diskDelay(), n.settle)
	default:
		n.after(n.w.between(50*time.Millisecond, 200*time.Millisecond), n.settle)
	}
}

func (n *node) apply(a raftnode.Apply) {
	n.w.checks.kept(n, a)
	if err := n.engine.Apply(a); err != nil {
		n.w.checks.fail("%s: apply: %v", n.name, err)
		return
	}
	last := a.Entries[len(a.Entries)-1]
	n.w.checks.applied(n, a)
	n.engine.Applied(a.Group, last.Index)
	n.wake()
}

// fatal ends the process because its disk failed (D3); nothing else may.
func (n *node) fatal(what string, err error) {
	switch {
	case errors.Is(err, vfs.ErrPowerOff):
		n.powerCut()
	case errors.Is(err, errDisk):
		n.w.report.DiskErrors++
		n.kill()
		nemesis{n.w}.restart(n)
	default:
		n.w.checks.fail("%s: %s: %v", n.name, what, err)
	}
}

// errDisk is what a failing disk returns.
var errDisk = errors.New("input/output error")

// die ends the process. What it had in memory is gone.
func (n *node) die() {
	if !n.up {
		return
	}
	n.up, n.paused, n.kept = false, false, nil
	n.life++
	n.engine, n.boot, n.log = nil, nil, nil
	if n.link != nil {
		n.w.net.Crash(n.id)
		n.link = nil
	}
	n.w.work.lost(n)
	n.w.note(2, n.id)
}

// kill is kill -9: the page cache survives.
func (n *node) kill() {
	n.die()
	n.disk, n.meta = n.disk.Kill(), n.meta.Snapshot()
}

// powerCut takes the machine's power: what was not synced may be gone.
func (n *node) powerCut() {
	n.die()
	n.disk, n.meta = n.disk.Crash(), n.meta.Snapshot()
}

// resume ends a pause: what has waited happens now, clients first.
func (n *node) resume() {
	if !n.paused {
		return
	}
	n.paused = false
	kept := n.kept
	n.kept = nil
	life := n.life
	for _, f := range kept {
		if n.life != life || !n.up {
			return
		}
		f()
	}
}

// spy is the node's transport; the checks see what leaves.
type spy struct{ n *node }

func (s spy) Send(to uint64, m transport.Message) {
	if s.n.link == nil {
		return
	}
	s.n.w.checks.sent(s.n, to, m)
	s.n.link.Send(to, m)
}

func (s spy) Close() {}

func (w *world) names() []string {
	names := make([]string, len(w.nodes))
	for i, n := range w.nodes {
		names[i] = n.name
	}
	return names
}

func (w *world) byName(name string) *node {
	for _, n := range w.nodes {
		if n.name == name {
			return n
		}
	}
	panic("no node " + name)
}

func (w *world) drawID() string { return fmt.Sprintf("%016x%016x", w.rnd.Uint64(), w.rnd.Uint64()) }

// diskDelay is how long an append takes: mostly little, now and then much.
func (w *world) diskDelay() time.Duration {
	if !w.calm && w.chance(0.01) {
		return w.between(10*time.Millisecond, 200*time.Millisecond)
	}
	return w.between(80*time.Microsecond, 2*time.Millisecond)
}
