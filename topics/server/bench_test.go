package server

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"testing"
)

// One connection pipelines PUBN of 128 bytes, 256 in flight, against a backend
// that answers at once: what a session costs by itself. There is no disk here.
func BenchmarkPublishPipelined(b *testing.B) {
	for _, size := range []int{128, 4096} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			srv, err := New(Options{Backend: discard{NewFake()}, Clock: fakeClock()})
			if err != nil {
				b.Fatal(err)
			}
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			served := make(chan error, 1)
			go func() { served <- srv.ServeTCP(ctx, ln) }()
			defer func() { cancel(); <-served }()
			conn, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			in := bufio.NewReader(conn)
			if _, err := in.ReadSlice('\n'); err != nil {
				b.Fatal(err)
			}
			const window = 256
			one := append(fmt.Appendf(nil, "PUBN bench %d\n", size), bytes.Repeat([]byte("x"), size)...)
			send := bytes.Repeat(append(one, '\n'), window)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			sent := 0
			for b.Loop() {
				if sent++; sent%window != 1 {
					continue
				}
				if _, err := conn.Write(send); err != nil {
					b.Fatal(err)
				}
				for range window {
					if _, err := in.ReadSlice('\n'); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

// discard is a Fake that acknowledges and forgets.
type discard struct{ *Fake }

func (d discard) Publish(p *Publish) {
	p.Done.Complete(Receipt{Group: 1, Index: 1, Term: 1, Synced: 2, Replicas: 3}, nil)
}

func BenchmarkHistory(b *testing.B) {
	fake := NewFake()
	object := batchOf(b, string(bytes.Repeat([]byte("x"), 128)))
	if _, err := fake.EnsureTopic(context.Background(), "a"); err != nil {
		b.Fatal(err)
	}
	for range 10_000 {
		fake.Append("a", 0, object)
	}
	s := newTestSession(b, fake)
	b.SetBytes(10_000 * 128)
	b.ReportAllocs()
	var out []byte
	for b.Loop() {
		h := &history{s: s}
		h.topic.Name, h.topic.Partition = "a", 0
		if err := h.prepare(context.Background()); err != nil {
			b.Fatal(err)
		}
		for more := true; more; {
			out, more = h.emit(out[:0])
		}
	}
}
