package server

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wiber/wiber/timesvc"
	"github.com/wiber/wiber/topics/wire"
)

// session serves one client connection.
//
// readLoop owns in and turn: it reads requests, gives publishes to the backend
// and puts a reply for each request into the queue. writeLoop owns out, current
// and subs: it writes replies as they are done, in the order of the queue but
// for tagged ones, and the messages of subscriptions. Everything they share is
// behind mu; wakec tells writeLoop to look again. What has to wait for the node
// (the barrier of a read, the making of a topic) waits in a goroutine of its own.
//
// Memory is bounded: unanswered requests by the session's and the server's
// budget (readLoop stops reading), out by one chunk, and subscriptions hold
// positions, not messages. serve returns when all of its goroutines have ended.
type session struct {
	srv   *Server
	conn  net.Conn
	bytes *budget // unanswered, of this session
	wakec chan struct{}
	work  sync.WaitGroup // readLoop, jobs, routes
	cut   timesvc.Timer  // closes the connection of a client that takes nothing

	draining atomic.Bool

	in   *wire.Reader
	turn map[uint64]uint32 // round robin, by topic uid

	routeMu sync.Mutex // may be held while calling Backend.Publish; taken before mu
	routed  sync.Cond
	routes  map[string]*route

	mu            sync.Mutex // never held across I/O or a call of the backend
	queue         fifo       // replies in request order
	tagged        []*reply   // done, may overtake
	openTagged    []*reply   // publishes with a tag, in request order, some of them done
	pruneAt       int        // length at which the done ones are taken out of openTagged
	numbers       uint64     // of replies
	floors        map[uint64]uint64
	news          []*source // have something to read
	topicsChanged bool
	flights       map[string]*flight // by topic; none is empty
	lastRequest   bool               // no further request will come
	ended         bool               // no goroutine may be started any more

	out     []byte
	current *reply // a job that is being written
	subs    map[string]*subscription
	names   uint64 // sids that the session chose
	active  []*source
	ordered []*ordered // of subs, those in order of time
	sources int
	watch   func() // stops the watch over the catalogue
	quit    bool   // close once out is written
	ctx     context.Context
}

// reply is the place of one request in the order of answers. What it answers is
// one of err, text, pub and job.
type reply struct {
	cost   int64 // taken from both budgets until it is written
	number uint64
	tag    string

	// Guarded by session.mu until done.
	done    bool
	started bool // job.prepare runs

	err  *wire.Error
	text []byte
	pub  *publish
	job  job
	last bool // the connection closes behind it
}

// job is a request that is worked on when its turn to be answered comes.
type job interface {
	// prepare waits for what the answer needs, in a goroutine of its own.
	prepare(ctx context.Context) *wire.Error
	// emit appends a part of the answer and says whether there is more.
	emit(dst []byte) (out []byte, more bool)
}

// replyCost is what a reply is counted for beyond what it carries.
const replyCost = 512

func newSession(srv *Server, conn net.Conn) *session {
	s := &session{
		srv:     srv,
		conn:    conn,
		bytes:   newBudget(srv.opts.SessionBytes),
		wakec:   make(chan struct{}, 1),
		turn:    make(map[uint64]uint32),
		routes:  make(map[string]*route),
		floors:  make(map[uint64]uint64),
		flights: make(map[string]*flight),
		subs:    make(map[string]*subscription),
	}
	s.routed.L = &s.routeMu
	s.cut = srv.clock.AfterFunc(srv.opts.CutAfter, s.cutOff)
	s.cut.Stop()
	return s
}

func (s *session) cutOff() {
	s.srv.log.Info("connection closed: the client takes nothing", "addr", s.conn.RemoteAddr().String())
	s.conn.Close()
}

// serve runs the session until the client leaves, drain ends (what was taken is
// still answered) or hard ends.
func (s *session) serve(drain, hard context.Context) {
	ctx, cancel := context.WithCancel(hard)
	defer cancel()
	s.ctx = ctx
	defer context.AfterFunc(hard, func() { s.conn.Close() })()
	defer context.AfterFunc(drain, func() {
		s.draining.Store(true)
		_ = s.conn.SetReadDeadline(time.Unix(1, 0)) // long ago: reading ends now
	})()

	info := s.srv.backend.Info()
	now, eps := s.srv.backend.Now()
	s.in = wire.NewReader(s.conn, info.MaxMessageBytes)
	s.out = wire.AppendHello(s.out, &wire.Hello{
		Node: info.Node, Cluster: info.Cluster, Now: now, Eps: eps, Max: info.MaxMessageBytes,
	})
	s.work.Go(func() {
		s.readLoop(ctx)
		s.update(func() { s.lastRequest = true })
	})
	err := s.writeLoop(ctx)
	cancel()
	s.end()
	if err == nil {
		s.hangUp(hard)
	}
	s.conn.Close()
	s.work.Wait()
}

// end releases what will not be written any more.
func (s *session) end() {
	s.mu.Lock()
	s.ended = true
	for r := s.queue.pop(); r != nil; r = s.queue.pop() {
		if r.done {
			s.release(r)
		}
	}
	for _, r := range s.tagged {
		s.release(r)
	}
	s.tagged = nil
	s.mu.Unlock()
	if s.current != nil {
		s.release(s.current)
	}
	for _, sub := range s.subs {
		s.drop(sub)
	}
	if s.watch != nil {
		s.watch()
	}
}

// hangUp closes the connection so that the client still gets the last replies:
// closing while the client's bytes are unread would make the system drop them.
func (s *session) hangUp(hard context.Context) {
	half, ok := s.conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil || hard.Err() != nil {
		return
	}
	t := s.srv.clock.AfterFunc(linger, func() { s.conn.Close() })
	defer t.Stop()
	_ = s.conn.SetReadDeadline(time.Time{})
	s.work.Wait() // readLoop has ended or is about to: its context did
	_, _ = io.Copy(io.Discard, s.conn)
}

// readLoop takes requests until the connection or the context ends.
func (s *session) readLoop(ctx context.Context) {
	var q wire.Request
	for !s.draining.Load() {
		err := s.in.Next(&q)
		var e *wire.Error
		switch {
		case err == nil:
			if !s.handle(ctx, &q) {
				return
			}
		case errors.As(err, &e):
			if s.answer(ctx, &reply{err: e, tag: e.Tag, last: e.Close}) != nil || e.Close {
				return
			}
		default:
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && !errors.Is(err, os.ErrDeadlineExceeded) {
				s.srv.log.Debug("connection lost", "addr", s.conn.RemoteAddr().String(), "err", err)
			}
			return
		}
	}
}

// handle takes one request; false ends the reading.
func (s *session) handle(ctx context.Context, q *wire.Request) bool {
	var err error
	switch q.Verb {
	case wire.Pub, wire.Pubn:
		err = s.publish(ctx, q)
	case wire.Ping:
		err = s.answer(ctx, &reply{text: wire.AppendPong(nil, q.Text)})
	case wire.Sub:
		err = s.ask(ctx, newSubscription(s, q))
	case wire.Unsub:
		err = s.tell(ctx, &unsubscribe{s: s, sid: q.SID})
	case wire.History:
		err = s.ask(ctx, newHistory(s, q))
	case wire.Topics:
		err = s.ask(ctx, newTopicList(s, q))
	case wire.Info:
		err = s.tell(ctx, &nodeList{b: s.srv.backend})
	case wire.Time:
		err = s.tell(ctx, &clockList{b: s.srv.backend})
	case wire.Help:
		text, problem := wire.AppendHelp(nil, q.HelpVerb)
		err = s.answer(ctx, &reply{text: text, err: problem})
	case wire.Quit:
		_ = s.answer(ctx, &reply{text: wire.AppendBye(nil), last: true})
		return false
	default:
		err = s.answer(ctx, &reply{err: wire.Errorf(wire.UnknownVerb, "%v: HELP lists the verbs", q.Verb)})
	}
	return err == nil
}

// admit takes the reply's cost from both budgets. The session's own comes first,
// so that a client that does not read its replies holds up only itself.
func (s *session) admit(ctx context.Context, r *reply, bytes int) error {
	cost, err := s.bytes.acquire(ctx, int64(replyCost+bytes))
	if err != nil {
		return err
	}
	if _, err := s.srv.bytes.acquire(ctx, cost); err != nil {
		s.bytes.release(cost)
		return err
	}
	r.cost = cost
	return nil
}

func (s *session) release(r *reply) {
	s.bytes.release(r.cost)
	s.srv.bytes.release(min(r.cost, s.srv.bytes.total))
}

// answer queues a reply that is done.
func (s *session) answer(ctx context.Context, r *reply) error {
	if err := s.admit(ctx, r, len(r.text)); err != nil {
		return err
	}
	s.update(func() {
		r.done = true
		if r.tag != "" && !r.last { // the last reply overtakes nothing
			s.tagged = append(s.tagged, r)
			return
		}
		s.pushLocked(r)
	})
	return nil
}

// tell queues a job that waits for nothing but its turn.
func (s *session) tell(ctx context.Context, j job) error {
	return s.answer(ctx, &reply{job: j})
}

// ask queues a job that is prepared when its turn comes.
func (s *session) ask(ctx context.Context, j job) error {
	r := &reply{job: j}
	if err := s.admit(ctx, r, 0); err != nil {
		return err
	}
	s.update(func() { s.pushLocked(r) })
	return nil
}

func (s *session) pushLocked(r *reply) {
	s.numbers++
	r.number = s.numbers
	s.queue.push(r)
}

// expectTaggedLocked notes a publish whose reply may overtake others.
func (s *session) expectTaggedLocked(r *reply) {
	if len(s.openTagged) >= s.pruneAt {
		s.openTagged = slices.DeleteFunc(s.openTagged, func(r *reply) bool { return r.done })
		s.pruneAt = 2*len(s.openTagged) + 64
	}
	s.numbers++
	r.number = s.numbers
	s.openTagged = append(s.openTagged, r)
}

// taggedBeforeLocked says whether a publish that was requested before has no
// outcome yet.
func (s *session) taggedBeforeLocked(number uint64) bool {
	for _, r := range s.openTagged {
		if r.number > number {
			return false
		}
		if !r.done {
			return true
		}
	}
	return false
}

// update changes shared state and wakes writeLoop.
func (s *session) update(change func()) {
	s.mu.Lock()
	change()
	s.mu.Unlock()
	s.wake()
}

func (s *session) wake() {
	select {
	case s.wakec <- struct{}{}:
	default:
	}
}

// finish completes a reply that was queued before.
func (s *session) finish(r *reply, err *wire.Error) {
	s.mu.Lock()
	wake := false
	if !r.done {
		r.err = err
		wake = s.doneLocked(r)
	}
	s.mu.Unlock()
	if wake {
		s.wake()
	}
}

// doneLocked marks the reply done and says whether writeLoop can go on now.
func (s *session) doneLocked(r *reply) bool {
	r.done = true
	if s.ended {
		s.release(r)
		return false
	}
	if r.tag != "" {
		s.tagged = append(s.tagged, r)
		return true
	}
	return s.queue.head() == r
}

// goLocked starts f unless the session has ended.
func (s *session) goLocked(f func()) bool {
	if s.ended {
		return false
	}
	s.work.Go(f)
	return true
}

// fifo is a queue of replies.
type fifo struct {
	items []*reply
	first int
}

func (f *fifo) push(r *reply) {
	if f.first > 64 && f.first > len(f.items)/2 {
		n := copy(f.items, f.items[f.first:])
		clear(f.items[n:])
		f.items, f.first = f.items[:n], 0
	}
	f.items = append(f.items, r)
}

func (f *fifo) head() *reply {
	if f.first == len(f.items) {
		return nil
	}
	return f.items[f.first]
}

func (f *fifo) pop() *reply {
	r := f.head()
	if r == nil {
		return nil
	}
	f.items[f.first] = nil
	f.first++
	if f.first == len(f.items) {
		f.items, f.first = f.items[:0], 0
	}
	return r
}
