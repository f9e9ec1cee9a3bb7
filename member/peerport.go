package member

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/wiber/wiber/member/gossip"
)

// The first byte of a connection to the peer port says what it is for. Raft
// links begin with the first byte of their handshake (docs/format/peer.md).
const askByte = 'B'

const (
	maxAskBytes      = 64 << 10
	askTimeout       = 2 * time.Second
	firstByteTimeout = 5 * time.Second
	acceptAgain      = 100 * time.Millisecond
)

// peerPort accepts the connections of peers and hands each on by its first
// byte: questions of bootstrapping nodes are answered here, gossip has its own,
// everything else belongs to the raft links.
type peerPort struct {
	ln    net.Listener
	reply func(Ask) Answer
	warn  func(what string, err error)
	// gossip and links take over the connection; the first byte is still unread.
	gossip func(net.Conn)
	links  func(net.Conn)

	mu    sync.Mutex // guards conns and closed
	conns map[net.Conn]bool
	done  bool
	wg    sync.WaitGroup
}

// serve accepts until ctx ends and returns when no connection is left in its
// hands; those given to links are theirs to close.
func (p *peerPort) serve(ctx context.Context) error {
	p.conns = make(map[net.Conn]bool)
	stop := context.AfterFunc(ctx, p.close)
	defer stop()
	defer p.wg.Wait()
	defer p.close()
	for {
		c, err := p.ln.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			// Too many open files, mostly: it passes, and the cluster needs this node.
			p.warn("a peer's connection could not be accepted, trying again", err)
			pause, end := context.WithTimeout(ctx, acceptAgain)
			<-pause.Done()
			end()
			continue
		}
		if !p.track(c) {
			_ = c.Close()
			return nil
		}
		p.wg.Add(1)
		go func() {
			defer p.wg.Done()
			defer p.untrack(c)
			p.hand(ctx, c)
		}()
	}
}

// hand reads the first byte and passes the connection on. A connection that
// says nothing for a while, or a question that takes too long, is cut.
func (p *peerPort) hand(ctx context.Context, c net.Conn) {
	ctx, cancel := context.WithTimeout(ctx, firstByteTimeout)
	defer cancel()
	cut := context.AfterFunc(ctx, func() { _ = c.Close() })
	br := bufio.NewReaderSize(c, 4096)
	first, err := br.Peek(1)
	if err != nil {
		_ = c.Close()
		return
	}
	if first[0] != askByte {
		take := p.links
		if first[0] == gossip.FirstByte && p.gossip != nil {
			take = p.gossip
		}
		if cut() {
			take(&peekedConn{Conn: c, br: br})
		}
		return
	}
	defer c.Close()
	_, _ = br.Discard(1)
	var a Ask
	if err := json.NewDecoder(io.LimitReader(br, maxAskBytes)).Decode(&a); err != nil {
		return
	}
	_ = json.NewEncoder(c).Encode(p.reply(a))
}

func (p *peerPort) track(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done {
		return false
	}
	p.conns[c] = true
	return true
}

func (p *peerPort) untrack(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

func (p *peerPort) close() {
	_ = p.ln.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done = true
	for c := range p.conns {
		_ = c.Close()
	}
}

// peekedConn gives back the bytes that were read to look at the first one.
type peekedConn struct {
	net.Conn
	br *bufio.Reader
}

func (c *peekedConn) Read(b []byte) (int, error) { return c.br.Read(b) }

// askPeer carries one question to a peer's port and returns its answer.
func askPeer(ctx context.Context, d *net.Dialer, addr string, q Ask) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return Answer{}, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	raw, err := json.Marshal(q)
	if err != nil {
		return Answer{}, err
	}
	if _, err := c.Write(append([]byte{askByte}, append(raw, '\n')...)); err != nil {
		return Answer{}, err
	}
	var a Answer
	if err := json.NewDecoder(io.LimitReader(c, maxAskBytes)).Decode(&a); err != nil {
		return Answer{}, fmt.Errorf("answer of %s: %w", addr, err)
	}
	return a, nil
}
