package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wiber/wiber/member"
	"github.com/wiber/wiber/raftnode"
	"github.com/wiber/wiber/raftnode/transport"
	"github.com/wiber/wiber/raftnode/vfs"
	"github.com/wiber/wiber/raftnode/wal"
	"github.com/wiber/wiber/topics/store"
)

// nemesis makes trouble, a quarter of the time none.
type nemesis struct{ w *world }

func (m nemesis) act() {
	w := m.w
	if w.calm {
		return
	}
	defer w.after(w.between(100*time.Millisecond, 2*time.Second), m.act)
	if w.chance(0.25) {
		return
	}
	n := w.nodes[w.rnd.IntN(len(w.nodes))]
	switch w.rnd.IntN(14) {
	case 0, 1:
		m.crash(n, n.kill)
	case 2:
		m.crash(n, n.powerCut)
	case 3: // in the middle of some write
		if n.up {
			n.disk.PowerOffAfter(1 + w.rnd.IntN(8))
			w.report.Crashes++
			m.restart(n)
		}
	case 4: // whoever leads the most
		if l := m.leader(); l != nil {
			m.crash(l, l.powerCut)
		}
	case 5:
		for _, n := range w.nodes {
			m.crash(n, n.powerCut)
		}
	case 6:
		m.pause(n)
	case 7:
		if l := m.leader(); l != nil {
			m.pause(l)
		}
	case 8:
		w.net.Isolate(n.id)
		w.after(w.between(300*time.Millisecond, 4*time.Second), w.net.HealAll)
	case 9:
		o := w.nodes[w.rnd.IntN(len(w.nodes))]
		w.net.Cut(n.id, o.id)
		w.after(w.between(300*time.Millisecond, 4*time.Second), func() { w.net.Heal(n.id, o.id) })
	case 10:
		w.net.SetFaults(transport.MemFaults{MinDelay: 50 * time.Microsecond, MaxDelay: w.between(time.Millisecond, 30*time.Millisecond),
			Loss: w.rnd.Float64() * 0.2, Duplicate: 0.05, Late: 0.02, LateBy: 2 * time.Second})
		w.after(w.between(500*time.Millisecond, 4*time.Second), func() { w.net.SetFaults(fairWeather) })
	case 11:
		n.skew += w.between(-3*time.Second, 3*time.Second)
	case 13: // the disk fails, and the process with it
		if n.up && n.faults != nil {
			op := vfs.OpSync
			if w.chance(0.3) {
				op = vfs.OpWrite
			}
			n.faults.Add(vfs.Rule{Op: op, After: w.rnd.IntN(4), Count: 1, Err: errDisk, Torn: w.chance(0.5)})
		}
	case 12:
		if w.chance(0.5) {
			m.damage(n)
		} else {
			m.erase(n)
		}
	}
}

// crash ends a node and has it started again.
func (m nemesis) crash(n *node, how func()) {
	if !n.up {
		return
	}
	m.w.report.Crashes++
	how()
	m.restart(n)
}

// restart starts a node some time later, if it is down then.
func (m nemesis) restart(n *node) {
	d := m.w.between(20*time.Millisecond, 1500*time.Millisecond)
	if m.w.chance(0.15) {
		d = m.w.between(3*time.Second, 8*time.Second)
	}
	m.w.after(d, func() {
		switch {
		case n.up && n.disk.Off():
			n.powerCut()
			n.start()
		case !n.up:
			n.start()
		}
	})
}

// afterVote may cut the power right after a vote was given, when forgetting it
// would matter.
func (m nemesis) afterVote(n *node) {
	if !m.w.calm && m.w.chance(0.05) {
		n.after(0, func() { m.crash(n, n.powerCut) })
	}
}

// pause stops a process as SIGSTOP does; the network goes on sending to it.
func (m nemesis) pause(n *node) {
	if !n.up || n.paused {
		return
	}
	n.paused = true
	m.w.report.Pauses++
	life := n.life
	m.w.after(m.w.between(200*time.Millisecond, 4*time.Second), func() {
		if n.life == life {
			n.resume()
		}
	})
}

// leader is the node that leads the most groups.
func (m nemesis) leader() (best *node) {
	most := 0
	for _, n := range m.w.nodes {
		led := 0
		if n.engine != nil {
			for _, g := range n.engine.Status() {
				if g.Role == raftnode.Leader {
					led++
				}
			}
		}
		if led > most {
			best, most = n, led
		}
	}
	return best
}

// damage flips a bit in the part of a node's log that was synced. The node must
// say so and not start (D4); nothing may be cut. Then the bit is flipped back.
func (m nemesis) damage(n *node) {
	if !n.up || n.engine == nil {
		return
	}
	n.powerCut()
	file, off, ok := m.syncedByte(n.disk)
	if !ok {
		m.restart(n)
		return
	}
	if m.w.chance(0.3) {
		m.loseTail(n)
		return
	}
	m.w.report.Flips++
	before := n.disk
	bit := uint(m.w.rnd.IntN(8))
	if err := n.disk.Flip(file, off, bit); err != nil {
		m.w.checks.fail("flip: %v", err)
	}
	m.w.checks.expectDamage(n)
	n.start()
	m.w.checks.damageSeen(n)
	n.die()
	n.disk = before.Kill()
	if err := n.disk.Flip(file, off, bit); err != nil {
		m.w.checks.fail("flip back: %v", err)
	}
	m.restart(n)
}

// loseTail removes the newest segments of a log. The node must say so and not
// start. Then they come back.
func (m nemesis) loseTail(n *node) {
	whole := n.disk
	n.disk = whole.Crash() // nothing is unsynced, so this is a plain copy
	names, err := n.disk.ReadDir(logDir)
	if err != nil {
		m.w.checks.fail("list a log: %v", err)
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !strings.HasSuffix(name, ".wal") })
	for _, name := range names[len(names)-1-m.w.rnd.IntN(len(names)):] {
		if err := n.disk.Remove(vfs.Join(logDir, name)); err != nil {
			m.w.checks.fail("remove a segment: %v", err)
		}
	}
	m.w.report.TailsLost++
	m.w.checks.expectDamage(n)
	n.start()
	m.w.checks.damageSeen(n)
	n.die()
	n.disk = whole
	m.restart(n)
}

// syncedByte finds a byte in the part of a log that was durable for certain:
// below the largest synced-through of the newest segment, or in the segment
// before it.
func (m nemesis) syncedByte(disk *vfs.Mem) (file string, off int64, ok bool) {
	probe := disk.Crash() // nothing is unsynced, so this is a plain copy
	log, err := wal.Open(wal.Options{FS: probe, Dir: logDir, Rand: reader{m.w.seeded()},
		SegmentBytes: m.w.o.SegmentBytes, FirstSegmentBytes: m.w.o.SegmentBytes / 2})
	if err != nil {
		m.w.checks.fail("open a copy of a log: %v", err)
		return "", 0, false
	}
	synced := log.Recovered().Synced
	segment, most := synced.Segment, synced.Offset
	const header = 4096
	if most <= header+16 {
		return "", 0, false
	}
	return vfs.Join(logDir, fmt.Sprintf("%012d.wal", segment)), header + 16 + m.w.rnd.Int64N(most-header-16), true
}

// erase starts a node with an empty folder, while its peers know that it ran.
// It must refuse to vote (D6). Then it gets its folder back.
func (m nemesis) erase(n *node) {
	known := false
	for _, o := range m.w.nodes {
		known = known || o != n && o.up && !o.paused && o.identity.Member != nil
	}
	if !n.up || n.identity.Member == nil || !known {
		return
	}
	n.powerCut()
	disk, meta, identity := n.disk, n.meta, n.identity
	n.disk, n.meta, n.identity = vfs.NewMem(m.w.seeded()), store.NewMem(), member.Identity{}
	m.w.report.Erased++
	m.w.checks.expectRefusal(n)
	n.start()
	m.w.after(2*time.Second, func() {
		if n.identity.Member != nil {
			m.w.checks.fail("%s voted with an erased folder", n.name)
		}
		n.die()
		n.disk, n.meta, n.identity = disk, meta, identity
		m.w.checks.expected(n)
		m.restart(n)
	})
}

// heal ends all trouble and starts everything that is down.
func (m nemesis) heal() {
	w := m.w
	w.calm = true
	w.net.HealAll()
	w.net.SetFaults(fairWeather)
	for _, n := range w.nodes {
		n.resume()
		n.disk.PowerOffAfter(0)
		if n.faults != nil {
			n.faults.Clear()
		}
		if n.disk.Off() {
			n.powerCut()
		}
	}
	m.restartAll()
}

// restartAll looks after the nodes until the end of the run.
func (m nemesis) restartAll() {
	for _, n := range m.w.nodes {
		if !n.up && !m.w.checks.erased[n] {
			n.start()
		}
	}
	m.w.after(500*time.Millisecond, m.restartAll)
}

var fairWeather = transport.MemFaults{MinDelay: 50 * time.Microsecond, MaxDelay: 400 * time.Microsecond}
