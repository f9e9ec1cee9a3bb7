package server

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/wiber/wiber/topics/client"
	"github.com/wiber/wiber/topics/gateway"
)

// insideTimeout is how long a publish over HTTP that names no time waits for a
// leader, and insideStall how long the node's own sessions may take to answer:
// longer, because a session answers by then.
const (
	insideTimeout = 10 * time.Second
	insideStall   = 11 * time.Second
)

// inside leads from this node's HTTP to its own sessions, through connections in
// memory: what HTTP does with messages has the order, limits and identities of
// the text protocol, and is written once.
type inside struct {
	conns   chan net.Conn // to be served by ServeTCP
	client  *client.Client
	gateway *gateway.Gateway
}

func newInside(o Options) (*inside, error) {
	in := &inside{conns: make(chan net.Conn)}
	var err error
	in.client, err = client.New(client.Options{
		Nodes: []string{"this node"}, Clock: o.Clock, Dial: in.dial, Timeout: insideTimeout, Stall: insideStall, Direct: true,
	})
	if err != nil {
		return nil, err
	}
	in.gateway = gateway.New(gateway.Options{
		Clock:  o.Clock,
		Client: func(*http.Request) (*client.Client, func(), error) { return in.client, func() {}, nil },
	})
	return in, nil
}

func (in *inside) dial(ctx context.Context, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case in.conns <- theirs:
		return ours, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// serve hands connections to the sessions until ctx ends.
func (in *inside) serve(ctx context.Context, sessions *sync.WaitGroup, serve func(net.Conn)) {
	for {
		select {
		case conn := <-in.conns:
			sessions.Go(func() { serve(conn) })
		case <-ctx.Done():
			return
		}
	}
}

// end tells the streams that the node ends, and does not wait for them.
func (in *inside) end() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = in.gateway.Close(ctx) // which says that ctx has ended
}

// close ends what is open, after the sessions have ended. Streams are told why
// before they notice.
func (in *inside) close() {
	in.end()
	_ = in.client.Close()
	_ = in.gateway.Close(context.Background()) // without a client no stream goes on
}
