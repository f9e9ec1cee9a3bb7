package transport

import (
	"log/slog"
	"net"
	"time"
)

// TCPOptions says who this node is and whom it talks to.
type TCPOptions struct {
	// ID is this node's raft id, Cluster its cluster's id (at most 64 bytes).
	// A connection between nodes of different clusters is refused by both.
	ID      uint64
	Cluster string
	// Incarnation differs and grows each time the node starts. Connections of
	// an earlier incarnation of a peer end when a later one is seen.
	Incarnation uint64
	// Peers are the other nodes' raft ids and peer addresses (host:port). This
	// node's own id is ignored.
	Peers map[uint64]string
	// LocalHost is the address connections are dialled from, so that a fault
	// can cut the link between two nodes by their addresses. Empty lets the
	// system choose.
	LocalHost string
	// Receiver is called from the goroutines of connections: calls of one
	// connection come one after the other, and those of different ones at the
	// same time. A callback that waits slows only its connection down.
	Receiver Receiver
	// Logger gets changes of connections; nil keeps them silent.
	Logger *slog.Logger

	// QueueBytes and QueueMessages bound what waits for one peer: 32 MiB and
	// 4096. Larger rides out longer stalls and costs memory for each peer.
	QueueBytes, QueueMessages int
	// DialTimeout bounds dialling and greeting: 1 s. WriteTimeout is how long
	// a peer may take no bytes until the connection is cut: 5 s.
	DialTimeout, WriteTimeout time.Duration
	// MinBackoff and MaxBackoff bound the pause after a failed dial: 50 ms,
	// doubling to 2 s, each with jitter. An incoming connection of the peer
	// ends the pause.
	MinBackoff, MaxBackoff time.Duration
}

// TCP is the Transport over real connections: this node dials each peer and
// sends on that connection; what peers send comes on connections that they
// dialled, through Serve.
type TCP struct{}

// NewTCP starts one link per peer. Close ends them.
func NewTCP(o TCPOptions) (*TCP, error) { panic("soon") }

// Send implements Transport.
func (t *TCP) Send(to uint64, m Message) {}

// Serve reads the connection of a peer until it ends, and closes it. Nothing
// may have been read from it before; it begins with the byte 'R'.
func (t *TCP) Serve(conn net.Conn) {}

// Close implements Transport. It also ends all connections in Serve.
func (t *TCP) Close() {}
