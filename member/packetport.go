package member

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/wiber/wiber/timesvc"
)

// maxPacketBytes is the largest packet that UDP carries; a longer one does not exist.
const maxPacketBytes = 64 << 10

// readAgain is the pause after a read that failed without end in sight.
const readAgain = 100 * time.Millisecond

// strangersEvery is how often packets that nobody takes are spoken of.
const strangersEvery = time.Minute

// packet is what came in one datagram.
type packet struct {
	payload []byte // with the first byte; the reader's, only until the handler returns
	from    netip.AddrPort
	at      time.Duration // on the clock's Mono: when it was read
	came    time.Duration // on the clock's Raw: when it came, by the kernel's stamp if there is one
}

// packetPort is the UDP side of the peer port. It hands each packet on by its
// first byte, as peerPort does with connections; what nobody takes is dropped
// and counted.
//
// That is worth a word only where no node can have sent it. Gossip and probes are
// taken once this node knows the cluster's secret and until it drains, and other
// nodes, which began before it, need not know that.
//
// One goroutine reads into one buffer and calls the handlers, so a handler must
// not wait, and copies what it keeps. Handlers are registered before or while
// serve runs. Sending may be done from any goroutine.
type packetPort struct {
	conn  *net.UDPConn
	clock timesvc.Clock
	warn  func(what string, args ...any)
	kinds [256]bool // by first byte: nodes send such packets

	handlers  [256]atomic.Pointer[func(packet)]
	sent      atomic.Uint64 // packets that the system took
	received  atomic.Uint64 // packets handed on
	untaken   atomic.Uint64 // packets of nodes dropped: nobody takes them now
	strangers atomic.Uint64 // other packets dropped: no node sends their first byte
}

// listenPackets opens the UDP side of a port.
func listenPackets(host string, port int) (*net.UDPConn, error) {
	addr, err := net.ResolveUDPAddr("udp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return nil, err
	}
	return net.ListenUDP("udp", addr)
}

// newPacketPort returns the port of packets that begin with one of kinds.
func newPacketPort(conn *net.UDPConn, clock timesvc.Clock, warn func(what string, args ...any), kinds ...byte) *packetPort {
	p := &packetPort{conn: conn, clock: clock, warn: warn}
	for _, first := range kinds {
		p.kinds[first] = true
	}
	return p
}

// handle gives packets that begin with first to h from now on; nil drops them.
// The first bytes that are taken stand in docs/format/peer.md.
func (p *packetPort) handle(first byte, h func(packet)) {
	if h == nil {
		p.handlers[first].Store(nil)
		return
	}
	p.handlers[first].Store(&h)
}

// send writes one packet and does not wait for anybody to take it.
func (p *packetPort) send(payload []byte, to netip.AddrPort) error {
	_, err := p.conn.WriteToUDPAddrPort(payload, to)
	if err == nil {
		p.sent.Add(1)
	}
	return err
}

// arrivals has the kernel stamp packets, where it can.
func (p *packetPort) arrivals() *timesvc.Arrivals {
	socket, err := p.conn.SyscallConn()
	if err != nil {
		socket = nil // the connection is closed; the first read says so
	}
	return timesvc.NewArrivals(p.clock, socket)
}

// serve reads until ctx ends. No error ends it: a node without packets misses
// hints, and runs on.
func (p *packetPort) serve(ctx context.Context) {
	defer context.AfterFunc(ctx, func() { _ = p.conn.Close() })()
	buf, oob := make([]byte, maxPacketBytes), make([]byte, timesvc.ArrivalBytes)
	arrivals := p.arrivals()
	var said, counted uint64
	var next time.Duration // when strangers may be spoken of again
	for {
		n, controls, _, from, err := p.conn.ReadMsgUDPAddrPort(buf, oob)
		now := p.clock.Mono()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			p.warn("the peer port's packets could not be read, trying again", "err", err)
			pause := p.clock.NewTimer(readAgain)
			select {
			case <-ctx.Done():
			case <-pause.C():
			}
			pause.Stop()
			continue
		}
		if n > 0 {
			if h := p.handlers[buf[0]].Load(); h != nil {
				p.received.Add(1)
				(*h)(packet{payload: buf[:n], from: netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), at: now, came: arrivals.At(oob[:controls])})
				continue
			}
			if p.kinds[buf[0]] {
				p.untaken.Add(1)
				continue
			}
		}
		counted = p.strangers.Add(1)
		if now >= next {
			p.warn("dropped packets on the peer port that no node sent", "packets", counted-said, "addr", from.String())
			said, next = counted, now+strangersEvery
		}
	}
}
