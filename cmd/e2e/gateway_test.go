package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// httpReceipt is what a publish over HTTP answers.
type httpReceipt struct {
	Topic     string
	Partition int
	Offset    uint64
	TS        uint64
	Eps       int64
	Synced    string
	Duplicate bool
}

// post publishes through the gateway, again under the same id while the outcome
// is unknown or nobody leads.
func (c *cluster) post(path, value string) (r httpReceipt, tries int) {
	c.t.Helper()
	eventually(c.t, 60*time.Second, "a publish is acknowledged", func() error {
		tries++
		resp, err := http.Post(fmt.Sprintf("http://127.0.0.1:%d%s", c.gateway, path), "text/plain", strings.NewReader(value))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s", resp.Status, body)
		}
		return json.Unmarshal(body, &r)
	})
	return r, tries
}

// A stream through the gateway is open while every node is killed in turn, also
// the one behind it. What is published through the gateway meanwhile arrives
// once, in order; and the history has it, page by page.
func TestAStreamThroughTheGatewayOutlivesTheNodeBehindIt(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts a real cluster")
	}
	c := newCluster(t, manifest{})
	c.start()
	const messages = 90
	ws, resp, err := websocket.DefaultDialer.DialContext(t.Context(), fmt.Sprintf("ws://127.0.0.1:%d/topics/live/stream?from=earliest", c.gateway), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	defer ws.Close()
	type message struct {
		Offset uint64
		Value  string
		ID     string
	}
	arrived := make(chan message, messages+1)
	broke := make(chan error, 1)
	go func() {
		for {
			_, frame, err := ws.ReadMessage()
			if err != nil {
				broke <- err
				return
			}
			var m message
			if err := json.Unmarshal(frame, &m); err != nil {
				broke <- fmt.Errorf("%w: %s", err, frame)
				return
			}
			arrived <- m
		}
	}()
	retried := 0
	for i := range messages {
		if i%30 == 10 {
			c.signal(c.names[i/30], syscall.SIGKILL)
		}
		if i%30 == 29 {
			c.awaitReady(c.names...) // a majority stays
		}
		_, tries := c.post(fmt.Sprintf("/topics/live/messages?id=m%d", i), fmt.Sprint(i))
		retried += tries - 1
	}
	for i := range messages {
		select {
		case m := <-arrived:
			if m.Offset != uint64(i) || m.Value != fmt.Sprint(i) || m.ID != fmt.Sprintf("m%d", i) {
				t.Fatalf("message %d arrives as %+v", i, m)
			}
		case err := <-broke:
			t.Fatalf("the stream broke before message %d: %v", i, err)
		case <-time.After(30 * time.Second):
			t.Fatalf("message %d does not arrive", i)
		}
	}
	t.Logf("3 nodes killed, %d messages, %d publishes repeated under their id", messages, retried)

	var got []string
	for next := uint64(0); ; {
		var page struct {
			Messages []message
			Next     uint64
		}
		if err := getJSON(fmt.Sprintf("http://127.0.0.1:%d/topics/live/messages?limit=40&from=%d", c.gateway, next), &page); err != nil {
			t.Fatal(err)
		}
		if len(page.Messages) == 0 {
			break
		}
		for _, m := range page.Messages {
			got = append(got, m.Value)
		}
		next = page.Next
	}
	for i, v := range got {
		if len(got) != messages || v != fmt.Sprint(i) {
			t.Fatalf("page by page: %d messages, number %d is %s", len(got), i, v)
		}
	}

	// The controller lists topics as the nodes do, and passes on what a node says.
	var lists [2]json.RawMessage
	for i, path := range []string{"/topics", "/nodes/n2/topics"} {
		if err := getJSON(fmt.Sprintf("http://127.0.0.1:%d%s", c.gateway, path), &lists[i]); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(bytes.TrimSpace(lists[0]), bytes.TrimSpace(lists[1])) {
		t.Errorf("the controller lists %s, a node %s", lists[0], lists[1])
	}
}

// Publishes without an id are stored once, although the gateway asks one node
// after the other while each is killed in turn: those that are acknowledged, where
// the receipt says, and those of unknown outcome at most once.
func TestPublishesThroughTheGatewayWithoutAnIDAreStoredOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts a real cluster")
	}
	c := newCluster(t, manifest{})
	c.start()
	const publishers = 3
	type outcome struct {
		value    string
		acked    bool
		offset   uint64
		refused  bool // certainly not written
		unlooked error
	}
	url := fmt.Sprintf("http://127.0.0.1:%d/topics/plain/messages", c.gateway)
	publish := func(value string) (o outcome) {
		o.value = value
		resp, err := http.Post(url, "text/plain", strings.NewReader(value))
		if err != nil {
			o.unlooked = err // the controller lives, so this is an error of the test's
			return o
		}
		defer resp.Body.Close()
		var r httpReceipt
		switch resp.StatusCode {
		case http.StatusOK:
			o.unlooked = json.NewDecoder(resp.Body).Decode(&r)
			o.acked, o.offset = true, r.Offset
		case http.StatusServiceUnavailable:
			o.refused = true
		case http.StatusGatewayTimeout:
		default:
			body, _ := io.ReadAll(resp.Body)
			o.unlooked = fmt.Errorf("%s: %s", resp.Status, body)
		}
		return o
	}
	var done atomic.Bool
	var publishing sync.WaitGroup
	outcomes := make([][]outcome, publishers)
	for p := range publishers {
		publishing.Go(func() {
			for i := 0; !done.Load(); i++ {
				outcomes[p] = append(outcomes[p], publish(fmt.Sprintf("%d-%d", p, i)))
			}
		})
	}
	for _, node := range c.names {
		before := c.pid(node)
		c.signal(node, syscall.SIGKILL)
		eventually(t, 30*time.Second, node+" was started again", func() error {
			if pid := c.pid(node); pid == before || pid == 0 {
				return fmt.Errorf("its pid is %d", pid)
			}
			return nil
		})
		c.awaitReady(c.names...) // a majority stays
	}
	done.Store(true)
	publishing.Wait()

	stored := map[string][]uint64{}
	for line := range strings.Lines(c.run("history", "plain", "-o", "json")) {
		var m struct {
			Offset uint64
			Value  string
		}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err)
		}
		stored[m.Value] = append(stored[m.Value], m.Offset)
	}
	acked, unknown, refused := 0, 0, 0
	for _, o := range slices.Concat(outcomes...) {
		at := stored[o.value]
		switch {
		case o.unlooked != nil:
			t.Errorf("%s: %v", o.value, o.unlooked)
		case o.acked:
			acked++
			if len(at) != 1 || at[0] != o.offset {
				t.Errorf("%s was acknowledged at offset %d and lies at %v", o.value, o.offset, at)
			}
		case o.refused:
			refused++
			if len(at) != 0 {
				t.Errorf("%s was certainly not written and lies at %v", o.value, at)
			}
		default:
			unknown++
			if len(at) > 1 {
				t.Errorf("%s is stored at %v", o.value, at)
			}
		}
	}
	t.Logf("3 nodes killed, %d publishes acknowledged, %d of unknown outcome, %d refused", acked, unknown, refused)
	if acked == 0 {
		t.Error("no publish was acknowledged")
	}
}
