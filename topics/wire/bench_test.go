package wire

import (
	"bytes"
	"fmt"
	"testing"
)

// loop repeats the same bytes for ever.
type loop struct {
	data []byte
	at   int
}

func (l *loop) Read(p []byte) (int, error) {
	n := copy(p, l.data[l.at:])
	l.at = (l.at + n) % len(l.data)
	return n, nil
}

func pubn(size int) *Request {
	return &Request{Verb: Pubn, Topic: Topic{"orders", AnyPartition}, Payload: make([]byte, size), Producer: "8f2c1d7e", Seq: 123456}
}

func TestTheHotPathDoesNotAllocate(t *testing.T) {
	q := pubn(128)
	q.Key, q.ID, q.Headers = []byte("k"), []byte("id 1"), []Header{{[]byte("a"), []byte("b")}}
	stream := bytes.Repeat(AppendRequest(nil, q), 1000)
	r := NewReader(&loop{data: stream}, 1<<20)
	var got Request
	m := Message{Topic: "orders", Offset: 7, TS: 1795341600123456, Key: []byte("k"), Value: make([]byte, 128)}
	c := Receipt{Topic: "orders", Offset: 7, TS: 1795341600123456, Synced: 2, Replicas: 3}
	replies := NewReplyReader(&loop{data: AppendAck(AppendMessage(nil, "s1", &m), &c, "")}, 0)
	var reply Reply
	var out []byte
	step := func() {
		if err := r.Next(&got); err != nil {
			panic(err)
		}
		out = AppendMessage(out[:0], "s1", &m)
		out = AppendAck(out, &c, "")
		out = AppendRequest(out, q)
		for range 2 {
			if err := replies.Next(&reply); err != nil {
				panic(err)
			}
		}
	}
	step()
	if n := testing.AllocsPerRun(200, step); n != 0 {
		t.Errorf("%v allocations per message", n)
	}
}

func BenchmarkReadPubn(b *testing.B) {
	for _, size := range []int{128, 4096, 100_000} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			r := NewReader(&loop{data: AppendRequest(nil, pubn(size))}, 1<<20)
			var q Request
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if err := r.Next(&q); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppendPubn(b *testing.B) {
	q := pubn(128)
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendRequest(buf[:0], q)
	}
}

func BenchmarkAppendMessage(b *testing.B) {
	m := Message{Topic: "orders", Offset: 7, TS: 1795341600123456, Value: make([]byte, 128)}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendMessage(buf[:0], "s1", &m)
	}
}

func BenchmarkReadAck(b *testing.B) {
	c := Receipt{Topic: "orders", Offset: 7, TS: 1795341600123456, Synced: 2, Replicas: 3}
	r := NewReplyReader(&loop{data: AppendAck(nil, &c, "")}, 0)
	var p Reply
	b.ReportAllocs()
	for b.Loop() {
		if err := r.Next(&p); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadMessage(b *testing.B) {
	m := Message{Topic: "orders", Offset: 7, TS: 1795341600123456, Value: make([]byte, 128)}
	r := NewReplyReader(&loop{data: AppendMessage(nil, "s1", &m)}, 0)
	var p Reply
	b.SetBytes(128)
	b.ReportAllocs()
	for b.Loop() {
		if err := r.Next(&p); err != nil {
			b.Fatal(err)
		}
	}
}
