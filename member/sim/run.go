package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/wiber/wiber/raftnode/transport"
	"github.com/wiber/wiber/raftnode/vfs"
	"github.com/wiber/wiber/topics/store"
)

// Options say what is run.
type Options struct {
	Seed     uint64
	Nodes    int           // 3
	Shards   int           // 2
	Duration time.Duration // of the faults, in virtual time: 30 s
	// SegmentBytes is small, so that a run has many segments: 64 KiB.
	SegmentBytes int64
	DedupIDs     uint64 // 1,000,000
}

func (o Options) withDefaults() Options {
	if o.Nodes == 0 {
		o.Nodes = 3
	}
	if o.Shards == 0 {
		o.Shards = 2
	}
	if o.Duration == 0 {
		o.Duration = 30 * time.Second
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = 64 << 10
	}
	if o.DedupIDs == 0 {
		o.DedupIDs = 1_000_000
	}
	return o
}

// Report counts what happened in a run, so that a test can insist that it did.
type Report struct {
	Seed     uint64
	Trace    string        // hash of all that happened
	Virtual  time.Duration // how long the run was
	Events   uint64
	Acked    int
	Unknown  int // attempts with an unknown outcome
	Followed int // reads of subscribers that found something

	Crashes, Pauses, TornTails, Elections, Flips, TailsLost, Erased, Refused, Promises, Settled, DiskErrors int
	Drops                                                                                                   uint64
	Reproposals, Suppressed, CatchUps                                                                       int
	LocalReads, SessionReads, LinearizableReads                                                             int
}

// Add sums reports up.
func (r *Report) Add(o Report) {
	r.Virtual += o.Virtual
	r.Events += o.Events
	r.Acked += o.Acked
	r.Unknown += o.Unknown
	r.Followed += o.Followed
	r.Crashes += o.Crashes
	r.Pauses += o.Pauses
	r.TornTails += o.TornTails
	r.Elections += o.Elections
	r.Flips += o.Flips
	r.TailsLost += o.TailsLost
	r.Erased += o.Erased
	r.Refused += o.Refused
	r.Promises += o.Promises
	r.Settled += o.Settled
	r.DiskErrors += o.DiskErrors
	r.Drops += o.Drops
	r.Reproposals += o.Reproposals
	r.Suppressed += o.Suppressed
	r.CatchUps += o.CatchUps
	r.LocalReads += o.LocalReads
	r.SessionReads += o.SessionReads
	r.LinearizableReads += o.LinearizableReads
}

// String is the report in one line.
func (r Report) String() string {
	return fmt.Sprintf("virtual=%v events=%d acked=%d unknown=%d crashes=%d diskerrors=%d torn=%d pauses=%d elections=%d drops=%d reproposals=%d suppressed=%d catchups=%d settled=%d flips=%d tailslost=%d erased=%d refused=%d promises=%d followed=%d reads(local=%d session=%d linearizable=%d)",
		r.Virtual.Round(time.Millisecond), r.Events, r.Acked, r.Unknown, r.Crashes, r.DiskErrors, r.TornTails, r.Pauses, r.Elections, r.Drops, r.Reproposals, r.Suppressed,
		r.CatchUps, r.Settled, r.Flips, r.TailsLost, r.Erased, r.Refused, r.Promises, r.Followed, r.LocalReads, r.SessionReads, r.LinearizableReads)
}

// restWithin is how long healed nodes may take until everything rests.
const restWithin = 40 * time.Second

// Run runs one seed. The caller has made crypto/rand repeatable with the same
// seed (testing/cryptotest), because raft draws its election jitter there. The
// error is the first violation.
func Run(o Options) (Report, error) {
	o = o.withDefaults()
	w := &world{o: o, rnd: rand.New(rand.NewPCG(o.Seed, 0x57696265)), trace: newTrace()}
	w.checks = newChecks(w)
	w.net = transport.NewMem(transport.MemOptions{Schedule: w.after, Rand: w.seeded(), Faults: fairWeather})
	for i := range o.Nodes {
		w.nodes = append(w.nodes, &node{w: w, name: fmt.Sprintf("n%d", i+1), id: uint64(i + 1), disk: vfs.NewMem(w.seeded()), meta: store.NewMem()})
	}
	for _, n := range w.nodes {
		w.after(w.between(0, 500*time.Millisecond), n.start)
	}
	w.work = newWorkload(w)
	w.after(3*time.Second, nemesis{w}.act)

	w.until(o.Duration, func() bool { return false })
	w.work.stopped = true
	nemesis{w}.heal()
	atRest := func() bool { return w.work.done() && w.checks.atRest() }
	w.until(o.Duration+restWithin, atRest)
	if w.checks.violation == nil && !atRest() {
		w.checks.fail("no rest %v after everything was healed: %s", restWithin, w.unrest())
	}
	if w.checks.violation == nil {
		w.checks.final()
	}
	stats := w.net.Stats()
	w.report.Seed, w.report.Virtual = o.Seed, w.now
	w.report.Drops = stats.Lost + stats.Cut + stats.Down
	w.report.Trace = fmt.Sprintf("%x", w.trace.Sum(nil)[:8])
	return w.report, w.checks.violation
}

// seeded gives a part of the world a generator of its own.
func (w *world) seeded() *rand.Rand { return rand.New(rand.NewPCG(w.rnd.Uint64(), w.rnd.Uint64())) }

// unrest says what keeps a healed world from resting.
func (w *world) unrest() string {
	s := fmt.Sprintf("%d requests under way", len(w.work.outstanding))
	for _, p := range w.work.publishers {
		if p.first < len(p.messages) {
			s += fmt.Sprintf("; %s waits for message %d of %d", p.name, p.first+1, len(p.messages))
		}
	}
	for _, n := range w.nodes {
		if n.engine == nil {
			s += fmt.Sprintf("; %s is down", n.name)
			continue
		}
		for _, g := range n.engine.Status() {
			s += fmt.Sprintf("; %s %s %s leader=%d term=%d commit=%d applied=%d", n.name, g.Group, g.Role, g.Leader, g.Term, g.Commit, g.Applied)
		}
	}
	return s
}
