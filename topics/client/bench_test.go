package client

import (
	"fmt"
	"net"
	"testing"

	"github.com/wiber/wiber/timesvc"
	"github.com/wiber/wiber/topics/wire"
)

// echo acknowledges every PUBN at once, without keeping anything.
func echo(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			out := wire.AppendHello(nil, &wire.Hello{Node: "n1", Cluster: "bench", Eps: -1, Max: 1 << 20})
			in := wire.NewReader(conn, 1<<20)
			var q wire.Request
			c := wire.Receipt{Topic: "orders", TS: 1795341600123456, Eps: -1, Term: 7, Synced: 2, Replicas: 3}
			for {
				if in.Buffered() == 0 || len(out) > 32<<10 {
					if _, err := conn.Write(out); err != nil {
						return
					}
					out = out[:0]
				}
				if in.Next(&q) != nil {
					return
				}
				out = wire.AppendAck(out, &c, "")
				c.Offset++
			}
		}()
	}
}

// BenchmarkProducer is the client's share of a publish: loopback TCP, and a node
// that does nothing but acknowledge (no fsync anywhere).
func BenchmarkProducer(b *testing.B) {
	for _, size := range []int{128, 1024} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			go echo(l)
			cl, err := New(Options{Nodes: []string{l.Addr().String()}, Clock: timesvc.NewSystem(timesvc.Skew{})})
			if err != nil {
				b.Fatal(err)
			}
			defer cl.Close()
			p, err := cl.Producer(ProducerOptions{})
			if err != nil {
				b.Fatal(err)
			}
			m := Message{Topic: "orders/0", Value: make([]byte, size)}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if err := p.Send(b.Context(), m, nil); err != nil {
					b.Fatal(err)
				}
			}
			if err := p.Flush(b.Context()); err != nil {
				b.Fatal(err)
			}
		})
	}
}
