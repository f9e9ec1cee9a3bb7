package topics

import "errors"

// ErrQueueFull says that a request was not taken and so certainly not written:
// too much waits for the group's leader.
var ErrQueueFull = errors.New("topics: too much waits for the shard's leader: try again")

// ForwarderOptions says whose stream a Forwarder keeps and how much of it.
type ForwarderOptions struct {
	// Origin is this incarnation of this node.
	Origin Origin
	// Window bounds the unanswered requests (default and most 4,096).
	Window int
	// WindowBytes bounds their bodies (default 16 MiB): what may be sent again
	// after a break. QueueBytes bounds the bodies of those not yet sent (default 64 MiB).
	WindowBytes, QueueBytes int
	// MessageBytes bounds what one Outgoing joins (default 1 MiB); a larger
	// request goes alone.
	MessageBytes int
	// ResendTicks is after how many ticks of silence everything unanswered is
	// sent again (default 10); it doubles up to eightfold while silence lasts.
	ResendTicks int
}

func (o ForwarderOptions) withDefaults() (ForwarderOptions, error) {
	if o.Origin.RaftID == 0 || o.Origin.Counter == 0 {
		return o, errors.New("topics: a Forwarder needs an origin")
	}
	for _, d := range []struct {
		v *int
		d int
	}{{&o.Window, RememberedResults}, {&o.WindowBytes, 16 << 20}, {&o.QueueBytes, 64 << 20}, {&o.MessageBytes, 1 << 20}, {&o.ResendTicks, 10}} {
		if *d.v < 0 {
			return o, errors.New("topics: a limit of a Forwarder is negative")
		}
		if *d.v == 0 {
			*d.v = d.d
		}
	}
	o.Window = min(o.Window, RememberedResults)
	return o, nil
}

// Completion is an answered request.
type Completion struct {
	Token  uint64
	Result Result
}

// Forwarder is a node's ordered stream of requests to a group's leader. Every
// request that was ever sent is answered once, by the leader's Apply, however
// often links break and leaders change: what is unanswered is sent again, in
// order, and the numbers keep it from being applied again.
//
// It is not safe for concurrent use.
type Forwarder struct {
	o ForwarderOptions

	leader, term uint64
	window       []unanswered // number n is at n % len(window)
	base         uint64       // the lowest unanswered number
	next         uint64       // the next number to give
	cursor       uint64       // the next number to send; base <= cursor <= next
	windowBytes  int

	waiting      []waiting // without a number; ticket firstTicket is at head
	head         int
	firstTicket  uint64
	waitingBytes int
	waitingLive  int

	paused  bool // until the next tick
	quiet   int  // ticks since the last progress
	backoff int
	resent  uint64 // what lies below it is on its way again since the last tick

	completions []Completion // reused by every Results
}

type unanswered struct {
	request Request
	token   uint64
	done    bool
}

type waiting struct {
	request   Request
	token     uint64
	withdrawn bool
}

// NewForwarder returns the stream of an origin that has sent nothing yet.
func NewForwarder(o ForwarderOptions) (*Forwarder, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Forwarder{o: o, base: 1, next: 1, cursor: 1, firstTicket: 1}, nil
}

// Submit queues a request behind those before it. token comes back in its
// Completion; ticket is what Withdraw takes. r.Body must not be changed later.
func (f *Forwarder) Submit(r Request, token uint64) (ticket uint64, err error) {
	size := len(r.Body) + requestOverhead
	if f.waitingBytes > 0 && f.waitingBytes+size > f.o.QueueBytes {
		return 0, ErrQueueFull
	}
	if f.head > 64 && f.head*2 > len(f.waiting) {
		n := copy(f.waiting, f.waiting[f.head:])
		clear(f.waiting[n:])
		f.waiting, f.head = f.waiting[:n], 0
	}
	ticket = f.firstTicket + uint64(len(f.waiting)-f.head)
	f.waiting = append(f.waiting, waiting{request: r, token: token})
	f.waitingBytes += size
	f.waitingLive++
	return ticket, nil
}

// Withdraw takes back a request that was never sent: it is certainly not
// written. False says that it was sent, so that its outcome is unknown until its
// Completion comes.
func (f *Forwarder) Withdraw(ticket uint64) bool {
	if ticket < f.firstTicket || ticket-f.firstTicket >= uint64(len(f.waiting)-f.head) {
		return false
	}
	w := &f.waiting[f.head+int(ticket-f.firstTicket)]
	if !w.withdrawn {
		f.waitingBytes -= len(w.request.Body) + requestOverhead
		f.waitingLive--
		*w = waiting{withdrawn: true}
	}
	return true
}

// SetLeader says who leads the group, 0 for nobody known, and in which term. A
// change sends everything unanswered again.
func (f *Forwarder) SetLeader(leader, term uint64) {
	if f.leader == leader && f.term == term {
		return
	}
	f.leader, f.term = leader, term
	f.Broken()
}

// Broken says that what was sent may be lost: everything unanswered is sent
// again, in order.
func (f *Forwarder) Broken() {
	f.cursor, f.paused, f.quiet, f.backoff, f.resent = f.base, false, 0, 0, 0
}

// Outgoing returns the next requests to send and to whom; none when nothing can
// be sent now. Call it until it returns none, whenever something was submitted,
// answered or changed.
func (f *Forwarder) Outgoing() (to uint64, requests []Request) {
	if f.leader == 0 || f.paused {
		return 0, nil
	}
	size := 0
	for {
		if f.cursor == f.next && !f.number() {
			break
		}
		u := f.at(f.cursor)
		if u.done {
			f.cursor++
			continue
		}
		r := &u.request
		size += len(r.Body) + requestOverhead
		if len(requests) > 0 && size > f.o.MessageBytes {
			break
		}
		requests = append(requests, *r)
		f.cursor++
	}
	return f.leader, requests
}

// at returns the place of a number in the window.
func (f *Forwarder) at(number uint64) *unanswered { return &f.window[number%uint64(len(f.window))] }

// number gives the next waiting request its number; false if none waits or the
// window is full.
func (f *Forwarder) number() bool {
	for f.head < len(f.waiting) && f.waiting[f.head].withdrawn {
		f.shift()
	}
	if f.head == len(f.waiting) {
		return false
	}
	w := &f.waiting[f.head]
	size := len(w.request.Body) + requestOverhead
	if f.next-f.base >= uint64(f.o.Window) || f.windowBytes > 0 && f.windowBytes+size > f.o.WindowBytes {
		return false
	}
	f.grow()
	w.request.Number = f.next
	*f.at(f.next) = unanswered{request: w.request, token: w.token}
	f.next++
	f.windowBytes += size
	f.waitingBytes -= size
	f.waitingLive--
	f.shift()
	return true
}

// shift takes the first waiting request off the queue.
func (f *Forwarder) shift() {
	f.waiting[f.head] = waiting{}
	f.head++
	f.firstTicket++
	if f.head == len(f.waiting) {
		f.waiting, f.head = f.waiting[:0], 0
	}
}

// grow makes room in the window for one more number.
func (f *Forwarder) grow() {
	if f.next-f.base < uint64(len(f.window)) {
		return
	}
	old := f.window
	f.window = make([]unanswered, max(16, 2*len(old)))
	for n := f.base; n < f.next; n++ {
		*f.at(n) = old[n%uint64(len(old))]
	}
}

// Results completes requests, in whatever order their answers come. Answers to
// another incarnation and repeated ones are ignored. The completions are valid
// until the next call.
func (f *Forwarder) Results(to Origin, results []Result) []Completion {
	f.completions = f.completions[:0]
	if to != f.o.Origin {
		return nil
	}
	for i := range results {
		r := &results[i]
		if r.Number < f.base || r.Number >= f.next || f.at(r.Number).done {
			continue
		}
		u := f.at(r.Number)
		f.completions = append(f.completions, Completion{Token: u.token, Result: *r})
		f.windowBytes -= len(u.request.Body) + requestOverhead
		*u = unanswered{done: true}
		f.quiet, f.backoff = 0, 0
	}
	for f.base < f.next && f.at(f.base).done {
		*f.at(f.base) = unanswered{}
		f.base++
	}
	f.cursor = max(f.cursor, f.base)
	return f.completions
}

// Nack goes back to what the leader expects. Every message behind a gap is
// answered by one, so those that came before what is sent again has arrived are
// passed over; should that be lost as well, the next tick lets one count. A Busy
// one, and one that the leader will outgrow by applying what it has, waits for
// the next tick.
func (f *Forwarder) Nack(to Origin, n Nack) {
	if to != f.o.Origin || n.Expect >= f.cursor {
		return
	}
	if n.Busy || n.Expect < f.base {
		f.cursor = max(f.base, n.Expect)
		f.paused = true
		return
	}
	if n.Expect >= f.resent {
		f.cursor, f.resent = n.Expect, f.cursor
	}
}

// Tick counts silence: what stays unanswered for long is sent again.
func (f *Forwarder) Tick() {
	f.paused, f.resent = false, 0
	if f.leader == 0 || f.cursor == f.base {
		f.quiet = 0
		return
	}
	if f.quiet++; f.quiet >= f.o.ResendTicks<<f.backoff {
		f.cursor, f.quiet, f.backoff = f.base, 0, min(f.backoff+1, 3)
	}
}

// Pending returns how many requests are unanswered and how many were not sent.
func (f *Forwarder) Pending() (sent, waiting int) {
	n := 0
	for i := f.base; i < f.next; i++ {
		if !f.at(i).done {
			n++
		}
	}
	return n, f.waitingLive
}
