package gateway

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/wiber/wiber/timesvc"
	"github.com/wiber/wiber/topics/wire"
)

// writeWait is how long a client may take nothing before it is cut off, unless
// told. What feeds its stream stands still meanwhile; nobody else waits.
const writeWait = 10 * time.Second

const (
	// pingEvery is how often a WebSocket is pinged, and pongWait how long after its
	// last sign of life it counts as gone.
	pingEvery = 20 * time.Second
	pongWait  = 50 * time.Second
	// closeWait is how long a client may take to answer that a WebSocket is closed.
	closeWait = time.Second
	// maxClientFrame bounds what a client may send; it is not looked at.
	maxClientFrame = 4 << 10
)

// StreamOptions are what Streams need.
type StreamOptions struct {
	// Clock is required.
	Clock timesvc.Clock
	// WriteWait is how long a client may take nothing before it is cut off; 10 s by
	// default. It must be long enough for the largest text on the slowest line.
	WriteWait time.Duration
	// Most bounds how many are open; one more is refused. 0: no bound.
	Most int
}

// Streams are a server's answers that go on, so that they can be bounded, and
// ended before the server does. It may be used concurrently.
type Streams struct {
	o      StreamOptions
	ctx    context.Context // ends when the streams shall
	cancel context.CancelFunc

	mu     sync.Mutex
	open   int
	ending bool
	idle   chan struct{} // closed when ending and none is open
}

// NewStreams returns Streams of which none is open. Close it, to end them.
func NewStreams(o StreamOptions) *Streams {
	if o.WriteWait == 0 {
		o.WriteWait = writeWait
	}
	s := &Streams{o: o, idle: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Close tells all streams to end, and returns when they have, or when ctx ends.
func (s *Streams) Close(ctx context.Context) error {
	s.mu.Lock()
	if !s.ending {
		s.ending = true
		if s.open == 0 {
			close(s.idle)
		}
	}
	s.mu.Unlock()
	s.cancel()
	select {
	case <-s.idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Len returns how many are open.
func (s *Streams) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

// Ending says whether Close was called.
func (s *Streams) Ending() bool { return s.ctx.Err() != nil }

// Open takes a place for the answer to a request, or says BUSY. The stream ends
// with End, also where nothing was answered.
func (s *Streams) Open(w http.ResponseWriter, r *http.Request) (*Stream, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ending:
		return nil, wire.Errorf(wire.Busy, "the server ends; connect again")
	case s.o.Most > 0 && s.open >= s.o.Most:
		return nil, wire.Errorf(wire.Busy, "there are %d streams, the maximum: end one, or use another node", s.open)
	}
	s.open++
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // its end would end the request's context
	st := &Stream{s: s, w: w, r: r}
	st.ctx, st.cancel = context.WithCancel(r.Context())
	st.stop = context.AfterFunc(s.ctx, st.cancel)
	return st, nil
}

func (s *Streams) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	if s.ending && s.open == 0 {
		close(s.idle)
	}
}

// Stream is an answer that goes on: text, sent as it comes, either as the body of
// an HTTP answer or as WebSocket text frames, whichever was asked for. Browsers
// allow six HTTP/1.1 connections per host and more WebSockets, and read no
// headers of them.
//
// It keeps nothing: Send waits for the client, up to WriteWait, so who feeds it
// stops reading where the client does, and what is under way is one text and what
// the kernel holds. A client that takes nothing for longer is cut off.
//
// The handler's goroutine sends. A WebSocket has two more: one reads pongs and
// the end, one pings. All have ended when End returns.
type Stream struct {
	s      *Streams
	w      http.ResponseWriter
	r      *http.Request
	ctx    context.Context // ends when the client is gone, or the server ends
	cancel context.CancelFunc
	stop   func() bool     // of the end of ctx with the server
	ws     *websocket.Conn // nil while, or if, there is none

	wg    sync.WaitGroup
	readc chan struct{} // closed when the reader has ended
}

// IsWebSocket says whether a request asks for a WebSocket.
func IsWebSocket(r *http.Request) bool { return websocket.IsWebSocketUpgrade(r) }

// Context ends when the client is gone, or the server ends.
func (st *Stream) Context() context.Context { return st.ctx }

// Frames says that texts are frames, not parts of a body.
func (st *Stream) Frames() bool { return st.ws != nil }

// Begin answers that the stream begins: as a WebSocket if that was asked for,
// else as a body of that type. The header has what the server says of itself. Host
// and Origin were checked before. After an error nothing was answered.
func (st *Stream) Begin(contentType string, header http.Header) error {
	if IsWebSocket(st.r) {
		return st.upgrade(header)
	}
	for name, values := range header {
		st.w.Header()[name] = values
	}
	st.w.Header().Set("Content-Type", contentType)
	st.w.WriteHeader(http.StatusOK)
	st.flush()
	return nil
}

func (st *Stream) upgrade(header http.Header) error {
	upgrader := websocket.Upgrader{
		CheckOrigin: func(*http.Request) bool { return true },
		Error:       func(http.ResponseWriter, *http.Request, int, error) {}, // the caller answers
	}
	ws, err := upgrader.Upgrade(st.w, st.r, header)
	if err != nil {
		return wire.Errorf(wire.Syntax, "%v", err)
	}
	st.ws, st.readc = ws, make(chan struct{})
	st.wg.Go(st.runReader)
	st.wg.Go(st.runPings)
	return nil
}

// runReader reads until the client is gone. What it sends is not looked at.
func (st *Stream) runReader() {
	defer close(st.readc)
	defer st.cancel()
	alive := func(string) error { return st.ws.SetReadDeadline(st.s.o.Clock.Now().Add(pongWait)) }
	st.ws.SetReadLimit(maxClientFrame)
	st.ws.SetPongHandler(alive)
	if alive("") != nil {
		return
	}
	for {
		if _, _, err := st.ws.NextReader(); err != nil {
			return
		}
	}
}

func (st *Stream) runPings() {
	ticker := st.s.o.Clock.NewTicker(pingEvery)
	defer ticker.Stop()
	for {
		select {
		case <-st.ctx.Done():
			return
		case <-ticker.C():
		}
		if st.ws.WriteControl(websocket.PingMessage, nil, st.deadline()) != nil {
			st.cancel()
			return
		}
	}
}

func (st *Stream) deadline() time.Time { return st.s.o.Clock.Now().Add(st.s.o.WriteWait) }

// Send sends text: one frame, or the next part of the body. It waits while the
// client takes nothing, up to WriteWait; after an error the stream is over.
func (st *Stream) Send(text []byte) (err error) {
	if st.ws != nil {
		if err = st.ws.SetWriteDeadline(st.deadline()); err == nil {
			err = st.ws.WriteMessage(websocket.TextMessage, text)
		}
	} else {
		_ = http.NewResponseController(st.w).SetWriteDeadline(st.deadline()) // not every writer has one
		if _, err = st.w.Write(text); err == nil {
			st.flush()
		}
	}
	if err != nil {
		st.cancel()
	}
	return err
}

func (st *Stream) flush() { _ = http.NewResponseController(st.w).Flush() } // not every writer can

// End ends the stream, a WebSocket with a reason for the client, and returns when
// its goroutines have ended.
func (st *Stream) End(code int, reason string) {
	defer st.s.leave()
	defer st.stop()
	defer st.wg.Wait()
	defer st.cancel()
	if st.ws == nil {
		return
	}
	defer st.ws.Close()
	const longest = 123 // of a reason in a frame of 125 bytes
	message := websocket.FormatCloseMessage(code, reason[:min(len(reason), longest)])
	if st.ws.WriteControl(websocket.CloseMessage, message, st.s.o.Clock.Now().Add(closeWait)) != nil {
		return
	}
	timer := st.s.o.Clock.NewTimer(closeWait)
	defer timer.Stop()
	select { // a connection that is closed with something unread loses what was sent
	case <-st.readc:
	case <-timer.C():
	}
}
