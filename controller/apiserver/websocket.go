package apiserver

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/wiber/wiber/manifests/v1alpha1"
	"github.com/wiber/wiber/timesvc"
)

const (
	// writeWait is how long a client may take nothing of what it is sent before it
	// is cut off.
	writeWait = 10 * time.Second
	// pingEvery is how often a WebSocket is pinged, and pongWait how long after its
	// last sign of life it counts as gone.
	pingEvery = 20 * time.Second
	pongWait  = 50 * time.Second
	// closeWait is how long a client may take to answer that a WebSocket is closed.
	closeWait = time.Second
	// maxClientFrame bounds what a client may send; it is not looked at.
	maxClientFrame = 4 << 10
)

// stream is an answer that goes on: text, sent as it comes, either as the body of
// an HTTP answer or as WebSocket text frames, whichever was asked for. Browsers
// allow six HTTP/1.1 connections per host and more WebSockets, and read no
// headers of them.
//
// The handler's goroutine sends. A WebSocket has two more: one reads pongs and
// the end, one pings. All end with end, which the handler calls.
type stream struct {
	ctx    context.Context // ends when the client is gone, or the server ends
	cancel context.CancelFunc
	clock  timesvc.Clock
	leave  func() // of the server's list

	// One of these.
	w  http.ResponseWriter
	ws *websocket.Conn

	wg    sync.WaitGroup
	readc chan struct{} // closed when the reader has ended
}

// isWebSocket says whether a request asks for a WebSocket.
func isWebSocket(r *http.Request) bool { return websocket.IsWebSocketUpgrade(r) }

// stream begins an answer that goes on. After an error nothing was answered yet.
func (s *server) stream(w http.ResponseWriter, r *http.Request, contentType string) (*stream, error) {
	leave, ok := s.streams.enter()
	if !ok {
		return nil, v1alpha1.NewStatus(v1alpha1.ReasonServiceUnavailable, "the controller ends")
	}
	st := &stream{clock: s.clock, leave: leave}
	st.ctx, st.cancel = context.WithCancel(r.Context())
	stop := context.AfterFunc(s.streams.ctx, st.cancel)
	st.leave = func() { stop(); leave() }
	if isWebSocket(r) {
		if err := st.upgrade(w, r); err != nil {
			st.cancel()
			st.leave()
			return nil, err
		}
		return st, nil
	}
	st.w = w
	patient(w)
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(http.StatusOK)
	st.flush()
	return st, nil
}

// upgrade makes a WebSocket of the request. Host and Origin were checked before.
func (st *stream) upgrade(w http.ResponseWriter, r *http.Request) error {
	upgrader := websocket.Upgrader{
		CheckOrigin: func(*http.Request) bool { return true },
		Error:       func(http.ResponseWriter, *http.Request, int, error) {}, // the caller answers
	}
	ws, err := upgrader.Upgrade(w, r, http.Header{"Server": {ServerName}})
	if err != nil {
		return v1alpha1.NewStatus(v1alpha1.ReasonBadRequest, "%v", err)
	}
	st.ws, st.readc = ws, make(chan struct{})
	st.wg.Go(st.runReader)
	st.wg.Go(st.runPings)
	return nil
}

// runReader reads until the client is gone. What it sends is not looked at.
func (st *stream) runReader() {
	defer close(st.readc)
	defer st.cancel()
	alive := func(string) error { return st.ws.SetReadDeadline(st.clock.Now().Add(pongWait)) }
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

func (st *stream) runPings() {
	ticker := st.clock.NewTicker(pingEvery)
	defer ticker.Stop()
	for {
		select {
		case <-st.ctx.Done():
			return
		case <-ticker.C():
		}
		if err := st.ws.WriteControl(websocket.PingMessage, nil, st.clock.Now().Add(writeWait)); err != nil {
			st.cancel()
			return
		}
	}
}

// send sends text: one frame, or the next part of the body. It waits while the
// client takes nothing, up to writeWait; after an error the stream is over.
func (st *stream) send(text []byte) (err error) {
	deadline := st.clock.Now().Add(writeWait)
	if st.ws != nil {
		if err = st.ws.SetWriteDeadline(deadline); err == nil {
			err = st.ws.WriteMessage(websocket.TextMessage, text)
		}
	} else {
		_ = http.NewResponseController(st.w).SetWriteDeadline(deadline) // not every writer has one
		if _, err = st.w.Write(text); err == nil {
			st.flush()
		}
	}
	if err != nil {
		st.cancel()
	}
	return err
}

func (st *stream) flush() { _ = http.NewResponseController(st.w).Flush() } // not every writer can

// end ends the stream, a WebSocket with a reason for the client, and returns when
// its goroutines have ended.
func (st *stream) end(code int, reason string) {
	defer st.leave()
	defer st.wg.Wait()
	defer st.cancel()
	if st.ws == nil {
		return
	}
	defer st.ws.Close()
	const longest = 123 // of a reason in a frame of 125 bytes
	message := websocket.FormatCloseMessage(code, reason[:min(len(reason), longest)])
	if st.ws.WriteControl(websocket.CloseMessage, message, st.clock.Now().Add(closeWait)) != nil {
		return
	}
	timer := st.clock.NewTimer(closeWait)
	defer timer.Stop()
	select { // a connection that is closed with something unread loses what was sent
	case <-st.readc:
	case <-timer.C():
	}
}

// streams are the streams that are open. They end before the server does.
type streams struct {
	ctx    context.Context // ends when the server ends
	cancel context.CancelFunc

	mu     sync.Mutex
	open   int
	ending bool
	idle   chan struct{} // closed when ending and none is open
}

func newStreams() *streams {
	s := &streams{idle: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// enter counts a stream in, unless the server ends.
func (s *streams) enter() (leave func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending {
		return nil, false
	}
	s.open++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.open--
		if s.ending && s.open == 0 {
			close(s.idle)
		}
	}, true
}

// end tells all streams to end, and returns when they have, or ctx ends.
func (s *streams) end(ctx context.Context) error {
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
