package timesvc

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"time"
)

// Probing, in time between two questions to one peer.
const (
	probeFast = int64(20 * time.Millisecond)  // until it was read probeFastFor times
	probeSlow = int64(100 * time.Millisecond) // from then on
	probeFar  = int64(time.Second)            // while it does not answer

	probeFastFor = 10                    // answers
	probePatient = 50                    // unanswered questions in a row, then probeFar
	noKeyPause   = 50 * time.Millisecond // until it is looked again whether there is a key
	probesOut    = 16                    // questions to one peer that may be on their way; an older one is forgotten
)

// ReferenceOptions say whose clocks make the cluster's time.
type ReferenceOptions struct {
	Clock Clock
	// Self is this node's raft id, Voters are those of all.
	Self   uint64
	Voters []uint64
	// Incarnation is this start of the node: its clock begins with it.
	Incarnation uint64
	// TestClock says that the clock is wrong on purpose; the others are told.
	TestClock bool
	// Nonce draws the number of a question; nil: from crypto/rand.
	Nonce func() uint64
}

// Reference is the cluster's reference time as one node knows it: the time of
// the middle one of the voters' clocks, found by probing them.
//
// The node's own clock is its wall clock, read once at the start and carried on
// by Clock.Raw, so that no step of the wall clock reaches it. Until the node is
// synchronised for the first time, that is its reference.
//
// All methods may be called concurrently. It has no goroutine and no socket:
// whoever has them asks for Question when NextQuestion is due, and gives it
// what comes in.
type Reference struct {
	o     ReferenceOptions
	base  int64         // wall clock at the start, nanoseconds since 1970
	raw   time.Duration // time base at the same moment
	index map[uint64]int

	mu      sync.Mutex  // guards everything below; a leaf
	codec   *probeCodec // nil: there is no key yet
	ens     *ensemble
	peers   []prober // by voter
	epoch   uint32
	lamport uint64
	last    int64 // what Now returned last, while synchronised
	wrong   uint64
}

// prober is what is known of the exchange with one peer.
type prober struct {
	incarnation uint64
	epoch       uint32
	next        int64 // when the next question is due, on this node's clock
	answers     int   // of this clock of the peer
	silent      int   // questions since the last answer
	out         []question
	eps         int64 // what it said of itself last
	flags       uint8
	lamport     uint64
	heard       bool
}

type question struct {
	nonce uint64
	sent  int64
}

// NewReference reads the wall clock for the last time.
func NewReference(o ReferenceOptions) (*Reference, error) {
	self := slices.Index(o.Voters, o.Self)
	switch {
	case o.Clock == nil:
		return nil, errors.New("timesvc: a Reference needs a Clock")
	case self < 0:
		return nil, errors.New("timesvc: a Reference needs to be one of its voters")
	}
	if o.Nonce == nil {
		o.Nonce = drawNonce
	}
	r := &Reference{
		o: o, index: make(map[uint64]int),
		peers: make([]prober, len(o.Voters)),
	}
	for i, v := range o.Voters {
		r.index[v] = i
	}
	r.anchor()
	r.ens = newEnsemble(len(o.Voters), self, r.base)
	return r, nil
}

// anchor reads the wall clock together with the time base, again if it was
// interrupted in between.
func (r *Reference) anchor() {
	narrowest := time.Duration(1<<63 - 1)
	for range 5 {
		before, _ := r.o.Clock.Raw()
		wall := r.o.Clock.Now().UnixNano()
		after, epoch := r.o.Clock.Raw()
		if width := after - before; width < narrowest {
			narrowest = width
			r.raw, r.epoch, r.base = before+width/2, epoch, wall
		}
		if narrowest < 20*time.Microsecond {
			return
		}
	}
}

// SetKey gives the key that authenticates probes. Without one no
// question is asked or answered, and a cluster of several nodes is unsynchronised.
func (r *Reference) SetKey(key []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.codec = newProbeCodec(key)
}

func drawNonce() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:])
	return binary.LittleEndian.Uint64(b[:])
}

// Now returns the reference time in microseconds since 1970, and its eps: by how
// many microseconds it is off at most, Unsynchronised when nobody knows. While
// the node stays synchronised it never falls.
func (r *Reference) Now() (us, eps int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.nowLocked(r.localLocked())
}

func (r *Reference) nowLocked(local int64) (us, eps int64) {
	corr, eps := r.ens.advance(local)
	us = (r.ens.at + corr) / nsPerUS
	if eps < 0 {
		r.last = 0
		return us, Unsynchronised
	}
	us = max(us, r.last)
	r.last = us
	if len(r.o.Voters) == 1 {
		return us, 0
	}
	return us, (eps + nsPerUS) / nsPerUS // what is cut off, too
}

// localLocked reads this node's own clock, in nanoseconds since 1970. Where it
// finds that the machine slept, everything that was read of the others is void.
func (r *Reference) localLocked() int64 {
	raw, epoch := r.o.Clock.Raw()
	if epoch != r.epoch {
		r.epoch = epoch
		r.ens.reset()
		for i := range r.peers {
			p := &r.peers[i]
			p.out, p.answers, p.next = nil, 0, 0
		}
	}
	return r.base + int64(raw-r.raw)
}

// NextQuestion returns in how long a question is due; 0: now.
func (r *Reference) NextQuestion() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.codec == nil && len(r.peers) > 1 {
		return noKeyPause
	}
	now, next := r.localLocked(), int64(time.Second)
	for i := range r.peers {
		if r.o.Voters[i] != r.o.Self {
			next = min(next, max(r.peers[i].next-now, 0))
		}
	}
	return time.Duration(next)
}

// Question returns a packet for a peer that is due for one, appended to dst; ok
// is false when none is. It is to be sent at once: its time is taken here.
func (r *Reference) Question(dst []byte) (to uint64, packet []byte, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.codec == nil {
		return 0, dst, false
	}
	now := r.localLocked()
	for i := range r.peers {
		p := &r.peers[i]
		if r.o.Voters[i] == r.o.Self || p.next > now {
			continue
		}
		p.next = r.beatLocked(now, p.interval())
		p.silent++
		to = r.o.Voters[i]
		q := r.saying(probeQuestion, to, now)
		q.nonce = r.o.Nonce()
		packet = r.codec.seal(dst, &q)
		if len(p.out) == probesOut {
			p.out = slices.Delete(p.out, 0, 1)
		}
		p.out = append(p.out, question{q.nonce, r.localLocked()})
		return to, packet, true
	}
	return 0, dst, false
}

// beatLocked returns when a multiple of every comes next on the reference time.
// So a node asks all others in one go, and synchronised nodes ask at the same
// moment: they wake up for it once, not once for each other.
func (r *Reference) beatLocked(now, every int64) int64 {
	return now + every - (now+r.ens.corr)%every
}

func (p *prober) interval() int64 {
	switch {
	case p.silent >= probePatient:
		return probeFar
	case p.answers < probeFastFor:
		return probeFast
	}
	return probeSlow
}

// saying fills in what every probe says of its sender.
func (r *Reference) saying(kind uint8, to uint64, now int64) probe {
	_, eps := r.nowLocked(now)
	q := probe{kind: kind, from: r.o.Self, to: to, incarnation: r.o.Incarnation, epoch: r.epoch, eps: eps, lamport: r.lamport}
	switch r.ens.state {
	case Synchronised:
		q.flags = flagSynchronised
	case Holdover:
		q.flags = flagHoldover
	}
	if r.o.TestClock {
		q.flags |= flagTestClock
	}
	return q
}

// News is what a packet changed.
type News struct {
	// Contradicts names the voter whose reading contradicts its earlier ones.
	Contradicts uint64
}

// Receive takes a packet that came at the time at of Clock.Raw, and returns the
// answer to send back at once, appended to dst; nil when none is due. A packet
// that is malformed, forged or repeated has no effect.
func (r *Reference) Receive(dst, packet []byte, at time.Duration) (answer []byte, news News) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.codec == nil {
		return nil, news
	}
	q, err := r.codec.open(packet)
	i, known := r.index[q.from]
	if err != nil || !known || q.to != r.o.Self || q.from == r.o.Self {
		r.wrong++
		return nil, news
	}
	r.localLocked()
	came := r.base + int64(at-r.raw)
	p := &r.peers[i]
	if !p.current(&q) {
		return nil, news // of a clock that is no more
	}
	if q.incarnation != p.incarnation || q.epoch != p.epoch {
		r.ens.forget(i)
		*p = prober{incarnation: q.incarnation, epoch: q.epoch, out: p.out}
	}
	p.heard, p.eps, p.flags, p.lamport = true, q.eps, q.flags, q.lamport
	if q.kind == probeQuestion {
		if p.silent >= probePatient {
			p.silent, p.next = 0, 0 // it is back
		}
		a := r.saying(probeAnswer, q.from, r.localLocked())
		a.nonce, a.received, a.sent = q.nonce, came, max(r.localLocked(), came)
		return r.codec.seal(dst, &a), news
	}
	k := slices.IndexFunc(p.out, func(o question) bool { return o.nonce == q.nonce })
	if k < 0 {
		return nil, news
	}
	x := Exchange{T1: p.out[k].sent, T2: q.received, T3: q.sent, T4: came}
	p.out = slices.Delete(p.out, 0, k+1)
	if !x.sound() {
		r.wrong++
		return nil, news
	}
	p.silent = 0
	p.answers++
	if r.ens.peers[i].add(x) {
		news.Contradicts = q.from
	}
	return nil, news
}

// current says whether a probe is of the peer's latest clock that is known.
func (p *prober) current(q *probe) bool {
	return q.incarnation > p.incarnation || q.incarnation == p.incarnation && q.epoch >= p.epoch
}

// NoteLamport takes note of the largest Lamport value that this node knows, for
// the others to see.
func (r *Reference) NoteLamport(n uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lamport = max(r.lamport, min(n, MaxLamport))
}

// Status is what a node knows of the cluster's clocks.
type Status struct {
	State State
	// Why says what keeps the node from being synchronised.
	Why string
	// Now is the reference time, Eps its uncertainty, both in microseconds.
	Now, Eps int64
	// Offset is how far this node's own clock is ahead of the reference, in
	// microseconds, and Drift how much faster it runs, in parts per million;
	// DriftKnown comes a few seconds after the start.
	Offset     int64
	Drift      float64
	DriftKnown bool
	Lamport    uint64
	TestClock  bool
	// Steps counts the jumps of the reference after the first synchronisation,
	// Ignored the packets that were malformed or not authentic.
	Steps   int
	Ignored uint64
	Peers   []PeerStatus // in the order of the voters, without this node
}

// PeerStatus is another node's clock, as this node sees it.
type PeerStatus struct {
	ID uint64
	// State is one of PeerOK, PeerUnknown, PeerSilent, PeerDistrusted, PeerAhead.
	State string
	// Offset is how far its clock is ahead of the reference, in microseconds, give
	// or take Bound. Known is false before the first reading.
	Known         bool
	Offset, Bound int64
	Drift         float64 // against the reference, parts per million
	DriftKnown    bool
	// Reading is the half-width of the reading that counts when it was taken, Age
	// is how long ago that was.
	Reading, Age time.Duration
	// What it said of itself last: its eps, its state, and its Lamport value.
	// Heard is false before.
	Heard     bool
	Eps       int64
	Says      State
	Lamport   uint64
	TestClock bool
}

// Status returns what is known now.
func (r *Reference) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	local := r.localLocked()
	us, eps := r.nowLocked(local)
	e := r.ens
	s := Status{
		State: e.state, Why: e.why, Now: us, Eps: eps, Offset: -e.corr / nsPerUS, Drift: -e.fit.ppm, DriftKnown: e.fit.ok,
		Lamport: r.lamport, TestClock: r.o.TestClock, Steps: e.steps, Ignored: r.wrong,
	}
	if len(r.peers) == 1 {
		s.DriftKnown = true
	}
	for i := range r.peers {
		if i != e.self {
			s.Peers = append(s.Peers, r.peerLocked(i, eps))
		}
	}
	return s
}

func (r *Reference) peerLocked(i int, eps int64) PeerStatus {
	p, c := &r.peers[i], &r.ens.peers[i]
	s := PeerStatus{ID: r.o.Voters[i], State: r.ens.peerState(i), Heard: p.heard, Eps: p.eps, Lamport: p.lamport,
		TestClock: p.flags&flagTestClock != 0, Says: Unsyncd}
	switch {
	case p.flags&flagSynchronised != 0:
		s.Says = Synchronised
	case p.flags&flagHoldover != 0:
		s.Says = Holdover
	}
	if !c.have {
		return s
	}
	at, guess := c.offset(r.ens.at), c.estimate(r.ens.at)
	s.Known, s.Offset = true, (guess-r.ens.corr)/nsPerUS
	s.Bound = (max(at.hi-guess, guess-at.lo) + nsPerUS) / nsPerUS
	if eps >= 0 {
		s.Bound += eps
	}
	drift, ok := c.drift()
	s.Drift, s.DriftKnown = drift-r.ens.fit.ppm, ok && r.ens.fit.ok
	s.Reading = time.Duration(c.best.half)
	s.Age = time.Duration(max(r.ens.at-c.best.at, 0))
	return s
}
