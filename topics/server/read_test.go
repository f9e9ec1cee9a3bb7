package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/wiber/wiber/manifests/v1alpha1"
	"github.com/wiber/wiber/timesvc"
	"github.com/wiber/wiber/topics/batch"
	"github.com/wiber/wiber/topics/wire"
)

func fakeClock() timesvc.Clock { return timesvc.NewSystem(timesvc.Skew{}) }

func batchOf(t testing.TB, values ...string) []byte {
	t.Helper()
	var records []batch.Record
	for _, v := range values {
		records = append(records, batch.Record{Value: []byte(v), Headers: []batch.Header{{Name: []byte("h"), Value: []byte(v)}}})
	}
	b, err := batch.Build(nil, records)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestHistoryReadsInsideBatchesOfSeveralRecords(t *testing.T) {
	st := newStory(t)
	st.hear("", 1)
	_ = st.event([]string{"topic", "a"})
	st.fake.Append("a", 0, batchOf(t, "0", "1", "2"))
	st.fake.Append("a", 0, batchOf(t, "3"))
	st.fake.Append("a", 0, batchOf(t, "4", "5"))
	for _, c := range []struct {
		options string
		want    string // offsets, and next
	}{
		{"", "0 1 2 3 4 5 6"},
		{"from=1 until=5", "1 2 3 4 5"},
		{"from=2 limit=1", "2 3"},
		{"limit=5", "0 1 2 3 4 5"},
		{"last=2", "4 5 6"},
		{"reverse", "5 4 3 2 1 0 0"},
		{"reverse from=1 until=5", "4 3 2 1 1"},
		{"reverse limit=4", "5 4 3 2 2"},
		{"reverse until=2 limit=1", "1 1"},
		{"reverse last=4", "5 4 3 2 2"},
		{"reverse from=5 until=5", "5"},
	} {
		t.Run(c.options, func(t *testing.T) {
			words := strings.Fields(c.want)
			st.say("", "HISTORY a "+c.options)
			for _, offset := range words[:len(words)-1] {
				st.expect("", "MSG a - "+offset, offset)
			}
			end := fmt.Sprintf("+END a n=%d next=%s as_of=1795341600000003", len(words)-1, words[len(words)-1])
			st.expect("", end)
		})
	}
	st.say("", "SUB a s from=4")
	st.expect("", "+SUB s", "MSG a s 4", "4", "MSG a s 5", "5")
}

// newTestSession is a session without a connection, to call its parts.
func newTestSession(t testing.TB, fake *Fake) *session {
	t.Helper()
	srv, err := New(Options{Backend: fake, Clock: fakeClock()})
	if err != nil {
		t.Fatal(err)
	}
	s := newSession(srv, nil)
	s.ctx = context.Background()
	return s
}

// A dumb twin for everything HISTORY does: all messages in a slice.
func TestHistoryAgainstASortedSlice(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 5))
		fake := NewFake()
		object := v1alpha1.NewTopic()
		object.Name, object.Spec.Partitions = "a", 1+rng.IntN(4)
		if _, _, err := fake.PutTopic(t.Context(), object); err != nil {
			t.Fatal(err)
		}
		type message struct {
			ts, offset uint64
			partition  int
		}
		var all []message
		next := make([]uint64, object.Spec.Partitions)
		for range rng.IntN(60) {
			p := rng.IntN(object.Spec.Partitions)
			values := make([]string, 1+rng.IntN(3)*rng.IntN(2))
			fake.SetTime(FakeStart + rng.Uint64N(1000)) // mostly the same clock tick
			fake.Append("a", uint32(p), batchOf(t, values...))
			for range values {
				ts, _ := fake.Now()
				all = append(all, message{ts, next[p], p})
				next[p]++
			}
		}
		s := newTestSession(t, fake)
		for range 30 {
			h := &history{s: s, topic: wire.Topic{Name: "a", Partition: wire.AnyPartition}, reverse: rng.IntN(2) == 0}
			if rng.IntN(2) == 0 {
				h.topic.Partition = rng.IntN(object.Spec.Partitions)
			}
			if rng.IntN(2) == 0 {
				h.last = 1 + rng.Uint64N(20)
			}
			if rng.IntN(2) == 0 {
				h.limit = 1 + rng.Uint64N(20)
			}
			lo, hi := uint64(0), uint64(1<<63)
			if rng.IntN(2) == 0 {
				lo = FakeStart + rng.Uint64N(1100)
				h.from = wire.Position{Kind: wire.AtTime, Micros: lo}
			}
			if rng.IntN(2) == 0 {
				hi = FakeStart + rng.Uint64N(1100)
				h.until = wire.Position{Kind: wire.AtTime, Micros: hi}
			}

			var want []message
			for _, m := range all {
				if (h.topic.Partition == wire.AnyPartition || m.partition == h.topic.Partition) && m.ts >= lo && m.ts < hi {
					want = append(want, m)
				}
			}
			slices.SortStableFunc(want, func(a, b message) int { return cmp.Compare(a.ts, b.ts) })
			if h.last > 0 {
				want = want[len(want)-min(len(want), int(h.last)):]
			}
			if h.reverse {
				slices.Reverse(want)
			}
			if h.limit > 0 {
				want = want[:min(len(want), int(h.limit))]
			}
			var lines []string
			for _, m := range want {
				topic := "a"
				if object.Spec.Partitions > 1 {
					topic += "/" + strconv.Itoa(m.partition)
				}
				lines = append(lines, fmt.Sprintf("MSG %s - %d ts=%d", topic, m.offset, m.ts))
			}

			if err := h.prepare(t.Context()); err != nil {
				t.Fatal(err)
			}
			var out []byte
			for more := true; more; {
				out, more = h.emit(out)
			}
			var got []string
			for line := range strings.Lines(string(out)) {
				if strings.HasPrefix(line, "MSG ") {
					line, _, _ = strings.Cut(line, " eps=")
					got = append(got, line)
				}
			}
			if !slices.Equal(got, lines) || h.end.N != uint64(len(lines)) {
				t.Fatalf("seed %d: %+v\ngot\n%s\nwant\n%s", seed, h, strings.Join(got, "\n"), strings.Join(lines, "\n"))
			}
		}
	}
}

// What was promised and cannot be read is an error, never a short answer.
func TestHistorySaysSoWhenTheLogHasAHole(t *testing.T) {
	for _, options := range []string{"", " reverse"} {
		st := newStory(t)
		st.hear("", 1)
		_ = st.event([]string{"topic", "a"})
		st.fake.Append("a", 0, batchOf(t, "0"))
		p := st.fake.parts[Stream{1, 0}]
		p.batches, p.next = nil, 3
		st.say("", "HISTORY a"+options, "PING")
		st.expect("", "-ERR INTERNAL internal error; the node's log says more", "PONG")
	}
}

type brokenReads struct {
	*Fake
	err error
}

func (b brokenReads) Read(Stream, uint64, int) ([]Stored, error) { return nil, b.err }

func TestASubscriptionWhoseLogCannotBeReadEnds(t *testing.T) {
	fake := NewFake()
	st := newStory(t, func(o *Options) { o.Backend = brokenReads{fake, errors.New("EIO")} })
	st.hear("", 1)
	st.say("", "PUB a 0", "SUB a s from=0")
	st.expect("", "+ACK a 0", "+SUB s", "-ERR INTERNAL sub=s next=0 internal error; the node's log says more")
	st.say("", "UNSUB s", "PING")
	st.expect("", "-ERR RANGE no subscription s: it never was, or has ended", "PONG")
}

func TestASessionFollowsOnlySoMuch(t *testing.T) {
	st := newStory(t, func(o *Options) { o.MaxSources = 3 })
	st.hear("", 1)
	_ = st.event([]string{"topic", "a", "2"})
	_ = st.event([]string{"topic", "b", "2"})
	const most = "a connection follows at most 3 partitions: subscribe to less, or on several connections"
	st.say("", "SUB > all", "SUB a s", "SUB b t", "SUB b/0 u", "SUB c v")
	st.expect("", "-ERR BUSY "+most, "+SUB s", "-ERR BUSY "+most, "+SUB u", "+SUB v")
	_ = st.event([]string{"topic", "c"})
	st.expect("", "-ERR BUSY sub=v next=- "+most)
	st.say("", "UNSUB s", "SUB c w", "PING")
	st.expect("", "+OK", "+SUB w", "PONG")
}

// FuzzSession feeds a whole server whatever bytes there are.
func FuzzSession(f *testing.F) {
	for _, s := range []string{
		"PING\n", "PUB a x\nHISTORY a\n", "PUBN a 3 tag=t id=1\nabc\nSUB a\nUNSUB 1\nQUIT\n",
		"PUBN a 999\n", "SUB >,* s from=-1s limit=2\nPUB x.y z\nTOPICS\nINFO\nHELP\n",
		"HISTORY a from=1 until=2026-11-22T10:00:00Z last=3 limit=1 reverse read=local\n",
		"PUBN a/0 1 p=w seq=1 noack\nx\nPUBN a/0 1 p=w seq=3\ny\n", "\r\n\r\n\xff\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		fake := NewFake()
		fake.Max = 64
		srv, err := New(Options{Backend: fake, Clock: fakeClock(), SessionBytes: 4 << 10})
		if err != nil {
			t.Fatal(err)
		}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Skip(err)
		}
		defer ln.Close()
		go func() {
			if conn, err := ln.Accept(); err == nil {
				srv.serveConn(t.Context(), t.Context(), conn)
			}
		}()
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Skip(err)
		}
		defer conn.Close()
		go func() {
			_, _ = conn.Write(in)
			_ = conn.(*net.TCPConn).CloseWrite()
		}()
		r := wire.NewReplyReader(conn, 1<<20)
		var reply wire.Reply
		for err == nil {
			err = r.Next(&reply)
		}
		if errors.Is(err, wire.ErrMalformed) || errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("after %v: %v", reply.Kind, err)
		}
	})
}
