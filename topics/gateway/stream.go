package gateway

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/gorilla/websocket"

	"github.com/wiber/wiber/topics/client"
)

const (
	// writeWait is how long a client may take nothing before it is cut off. Its
	// subscription stands still meanwhile; the topic does not wait.
	writeWait = 10 * time.Second
	// pingEvery is how often a client is pinged, and pongWait how long after its
	// last sign of life it counts as gone.
	pingEvery = 20 * time.Second
	pongWait  = 50 * time.Second
	// closeWait is how long a client may take to answer that its stream is closed.
	closeWait = time.Second
	// maxClientFrame bounds what a client may send; it is not looked at.
	maxClientFrame = 4 << 10
)

// stream answers GET /topics/{topic}/stream: a message per text frame, until the
// client leaves or the server ends. An error that comes after the handshake is a
// frame {"error":{…}}, and the stream closes with 1008.
//
// The handler's goroutine sends; one more reads pongs and the client's end, one
// pings. All have ended when stream returns.
func (g *Gateway) stream(w http.ResponseWriter, r *http.Request) {
	q, err := g.query(r, "from")
	if err != nil {
		fail(w, err)
		return
	}
	t, err := topic(r)
	if err != nil {
		fail(w, err)
		return
	}
	from, err := position(q, "from")
	if err != nil {
		fail(w, err)
		return
	}
	if !websocket.IsWebSocketUpgrade(r) {
		w.Header().Set("Upgrade", "websocket")
		writeError(w, http.StatusUpgradeRequired, "SYNTAX", r.URL.Path+" is a WebSocket: connect with ws://")
		return
	}
	if err := g.enter(); err != nil {
		fail(w, err)
		return
	}
	defer g.leave()
	c, release, ok := g.client(w, r)
	if !ok {
		return
	}
	defer release()
	ctx, cancel := context.WithCancel(g.ctx) // a hijacked request's own ends only with the handler
	defer cancel()
	// The stream has its place before the client knows that it is open: what is
	// published from then on is in it.
	sub := c.Subscribe(ctx, t.String(), client.SubscribeOptions{From: from})
	defer sub.Close()
	if !sub.Begin() {
		fail(w, sub.Err())
		return
	}
	upgrader := websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }} // the server around has checked it
	ws, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // it was answered
	}
	defer ws.Close()
	s := &socket{g: g, ws: ws, gone: make(chan struct{})}
	pinged := make(chan struct{})
	go func() { defer close(pinged); s.runPings(ctx) }()
	go func() { defer close(s.gone); defer cancel(); s.read() }()
	defer func() { <-pinged }()
	defer func() { cancel(); ws.Close(); <-s.gone }()

	var frame []byte
	for sub.Next() {
		frame = sub.Message().AppendJSON(frame[:0])
		if s.send(frame) != nil {
			return
		}
	}
	switch {
	case g.ctx.Err() != nil:
		s.close(websocket.CloseGoingAway, "the server ends; connect again")
	case ctx.Err() != nil: // the client left
	default:
		e := problem(sub.Err())
		body, _ := json.Marshal(map[string]any{"error": map[string]string{"code": string(e.Code), "message": e.Text}})
		if s.send(body) == nil {
			s.close(websocket.ClosePolicyViolation, string(e.Code))
		}
	}
}

// socket is the client's end of a stream.
type socket struct {
	g    *Gateway
	ws   *websocket.Conn
	gone chan struct{} // closed when reading has ended
}

func (s *socket) send(text []byte) error {
	if err := s.ws.SetWriteDeadline(s.g.o.Clock.Now().Add(writeWait)); err != nil {
		return err
	}
	return s.ws.WriteMessage(websocket.TextMessage, text)
}

// read reads until the client is gone; what it sends is not looked at.
func (s *socket) read() {
	alive := func(string) error { return s.ws.SetReadDeadline(s.g.o.Clock.Now().Add(pongWait)) }
	s.ws.SetReadLimit(maxClientFrame)
	s.ws.SetPongHandler(alive)
	if alive("") != nil {
		return
	}
	for {
		if _, _, err := s.ws.NextReader(); err != nil {
			return
		}
	}
}

func (s *socket) runPings(ctx context.Context) {
	ticker := s.g.o.Clock.NewTicker(pingEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
		}
		if s.ws.WriteControl(websocket.PingMessage, nil, s.g.o.Clock.Now().Add(writeWait)) != nil {
			return
		}
	}
}

// close says why, and waits a moment for the client to have read everything: a
// connection that is closed with something unread loses what was sent.
func (s *socket) close(code int, reason string) {
	if s.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, reason), s.g.o.Clock.Now().Add(closeWait)) != nil {
		return
	}
	timer := s.g.o.Clock.NewTimer(closeWait)
	defer timer.Stop()
	select {
	case <-s.gone:
	case <-timer.C():
	}
}
