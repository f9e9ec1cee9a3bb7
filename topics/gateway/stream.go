package gateway

import (
	"encoding/json"
	"net/http"

	"github.com/gorilla/websocket"

	"github.com/wiber/wiber/topics/client"
)

// stream answers GET /topics/{topic}/stream: a message per text frame, until the
// client leaves or the server ends. An error that comes after the handshake is a
// frame {"error":{…}}, and the stream closes with 1008.
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
	if !IsWebSocket(r) {
		w.Header().Set("Upgrade", "websocket")
		writeError(w, http.StatusUpgradeRequired, "SYNTAX", r.URL.Path+" is a WebSocket: connect with ws://")
		return
	}
	st, err := g.streams.Open(w, r)
	if err != nil {
		fail(w, err)
		return
	}
	code, reason := websocket.CloseNormalClosure, ""
	defer func() { st.End(code, reason) }()
	c, release, ok := g.client(w, r)
	if !ok {
		return
	}
	defer release()
	// The stream has its place before the client knows that it is open: what is
	// published from then on is in it.
	sub := c.Subscribe(st.Context(), t.String(), client.SubscribeOptions{From: from})
	defer sub.Close()
	if !sub.Begin() {
		fail(w, sub.Err())
		return
	}
	if err := st.Begin("", nil); err != nil {
		fail(w, err)
		return
	}
	var frame []byte
	for sub.Next() {
		frame = sub.Message().AppendJSON(frame[:0])
		if st.Send(frame) != nil {
			code, reason = websocket.ClosePolicyViolation, "too slow"
			return
		}
	}
	switch {
	case g.streams.Ending():
		code, reason = websocket.CloseGoingAway, "the server ends; connect again"
	case st.Context().Err() != nil: // the client left
	default:
		e := problem(sub.Err())
		body, _ := json.Marshal(map[string]any{"error": map[string]string{"code": string(e.Code), "message": e.Text}})
		_ = st.Send(body) // End says it too
		code, reason = websocket.ClosePolicyViolation, string(e.Code)
	}
}
