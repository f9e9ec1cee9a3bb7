package gossip

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/wiber/wiber/timesvc"
)

// FirstByte begins every packet and every connection of gossip on the peer port:
// memberlist's mark of a label.
const FirstByte = 244

const (
	packetQueue = 256     // packets that wait to be looked at; more are dropped
	maxStreams  = 32      // connections of others at a time; more are closed
	maxStream   = 1 << 20 // bytes of one connection
)

// transport is memberlist's way to the peer port. It knows nodes by their names
// and addresses by the cluster's file; what peers say of addresses is not needed.
type transport struct {
	o       *Options
	clock   timesvc.Clock
	packetc chan *memberlist.Packet
	streamc chan net.Conn
	streams atomic.Int32
	dropped atomic.Uint64 // packets for which there was no room

	mu   sync.Mutex // guards done
	done bool
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

func newTransport(o *Options) *transport {
	return &transport{o: o, clock: o.Clock, packetc: make(chan *memberlist.Packet, packetQueue), streamc: make(chan net.Conn, maxStreams)}
}

// packet takes what came on the peer port; it copies it and does not wait.
func (t *transport) packet(payload []byte, from netip.AddrPort) {
	p := &memberlist.Packet{Buf: append([]byte(nil), payload...), From: net.UDPAddrFromAddrPort(from), Timestamp: t.clock.Now()}
	select {
	case t.packetc <- p:
	default:
		t.dropped.Add(1)
	}
}

// stream takes a connection over.
func (t *transport) stream(c net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.done || t.streams.Load() >= maxStreams {
		_ = c.Close()
		return
	}
	t.streams.Add(1)
	s := &stream{Conn: c, t: t}
	select {
	case t.streamc <- s:
	default:
		_ = s.Close()
	}
}

// stream is a connection that a peer opened: one of few, and of limited length.
type stream struct {
	net.Conn
	t    *transport
	once sync.Once
	read int
}

func (s *stream) Read(b []byte) (int, error) {
	if s.read >= maxStream {
		return 0, fmt.Errorf("gossip: a connection of more than %d bytes", maxStream)
	}
	n, err := s.Conn.Read(b[:min(len(b), maxStream-s.read)])
	s.read += n
	return n, err
}

func (s *stream) Close() error {
	s.once.Do(func() { s.t.streams.Add(-1) })
	return s.Conn.Close()
}

// FinalAdvertiseAddr implements memberlist.Transport.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.o.Self.Addr().AsSlice(), int(t.o.Self.Port()), nil
}

// where is a node's address by the file; else what the message said.
func (t *transport) where(a memberlist.Address) string {
	if addr, ok := t.o.Peers[a.Name]; ok {
		return addr
	}
	return a.Addr
}

// WriteToAddress implements memberlist.NodeAwareTransport.
func (t *transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	addr, err := resolve(t.where(a))
	if err != nil {
		return time.Time{}, err
	}
	return t.clock.Now(), t.o.Send(b, addr)
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.o.Dial(t.where(a), timeout)
}

// WriteTo implements memberlist.Transport.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	return t.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// DialTimeout implements memberlist.Transport.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// PacketCh implements memberlist.Transport.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packetc }

// StreamCh implements memberlist.Transport.
func (t *transport) StreamCh() <-chan net.Conn { return t.streamc }

// Shutdown implements memberlist.Transport. Connections that nobody has taken yet
// are closed; those that are served end by themselves, within streamTimeout.
func (t *transport) Shutdown() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done = true
	for {
		select {
		case c := <-t.streamc:
			_ = c.Close()
		default:
			return nil
		}
	}
}

// resolve reads host:port; a name is looked up.
func resolve(addr string) (netip.AddrPort, error) {
	if ap, err := netip.ParseAddrPort(addr); err == nil {
		return ap, nil
	}
	a, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return netip.AddrPort{}, err
	}
	ap := a.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), nil
}

// Advertise is the address that a node on host and port shows to the others.
func Advertise(host string, port int) (netip.AddrPort, error) {
	return resolve(net.JoinHostPort(host, strconv.Itoa(port)))
}
