package server

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/wiber/wiber/manifests/v1alpha1"
	"github.com/wiber/wiber/timesvc"
	"github.com/wiber/wiber/topics/batch"
	"github.com/wiber/wiber/topics/wire"
)

// makeTopics makes topics of some partitions; topic i has the uid i + 1.
func makeTopics(t testing.TB, fake *Fake, partitions int, names ...string) {
	t.Helper()
	for _, name := range names {
		object := v1alpha1.NewTopic()
		object.Name, object.Spec.Partitions = name, partitions
		if _, _, err := fake.PutTopic(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
}

func oneRecord(t testing.TB, value string) []byte {
	t.Helper()
	b, err := batch.Build(nil, []batch.Record{{Value: []byte(value)}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestOrderByTimeWaitsAsLongAsItIsTold: in virtual time. A message beside a silent
// shard waits for maxdelay from when it came, and the next ones no longer; what
// the silent shard had is late, not lost.
func TestOrderByTimeWaitsAsLongAsItIsTold(t *testing.T) {
	fake, v := NewFake(), timesvc.NewVirtual(time.UnixMicro(FakeStart))
	makeTopics(t, fake, 1, "a", "b") // of the groups 2 and 3
	said := make(chan string, 100)
	conn := pipeStory(t, fake, v, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(lineWriter(said), nil)) })
	in := bufio.NewReader(conn)
	say := func(line string) { go func() { _, _ = io.WriteString(conn, line+"\n") }() }
	hear := func(want ...string) {
		t.Helper()
		for _, w := range want {
			_ = conn.SetReadDeadline(timesvc.NewSystem(timesvc.Skew{}).Now().Add(20 * time.Second))
			line, err := in.ReadString('\n')
			if err != nil || !strings.HasPrefix(line, w) {
				t.Fatalf("heard %q, %v; want %q", line, err, w)
			}
		}
	}
	// holds returns when the session holds a message back for others.
	holds := func() {
		t.Helper()
		eventually(t, 20*time.Second, func() bool {
			fake.mu.Lock()
			defer fake.mu.Unlock()
			return len(fake.awaits) > 0
		})
		say("PING") // and has looked at all that came before
		hear("PONG")
	}
	hear("+HELLO")
	say("SUB a,b s order=time maxdelay=200ms")
	hear("+SUB s")

	fake.Silence(3)
	fake.Append("a", 0, oneRecord(t, "first"))
	holds()
	v.Advance(150 * time.Millisecond)
	fake.Append("a", 0, oneRecord(t, "second"))
	holds()
	v.Advance(49 * time.Millisecond)
	holds() // or the PONG would come behind it
	v.Advance(time.Millisecond)
	hear("MSG a s 0", "first")
	holds()
	v.Advance(149 * time.Millisecond)
	holds()
	v.Advance(time.Millisecond)
	hear("MSG a s 1", "second")
	if len(said) != 1 { // once for both
		t.Fatalf("%d lines were logged", len(said))
	}
	if line := <-said; !strings.Contains(line, "a shard does not say that nothing older comes") || !strings.Contains(line, "group=3") {
		t.Fatalf("logged %q", line)
	}

	// The silent shard's clock lags: what it gave meanwhile is older than that.
	fake.AppendAt("b", 0, oneRecord(t, "old"), FakeStart+1)
	line, _ := in.ReadString('\n')
	if want := fmt.Sprintf("MSG b s 0 ts=%d eps=0 lam=3 late=1 3\n", uint64(FakeStart+1)); line != want {
		t.Fatalf("heard %q, want %q", line, want)
	}
	hear("old")
	fake.Speak(3)
	fake.Append("b", 0, oneRecord(t, "new"))
	line, _ = in.ReadString('\n')
	if !strings.HasPrefix(line, "MSG b s 1 ") || strings.Contains(line, "late") {
		t.Fatalf("heard %q", line)
	}
	hear("new")
}

// lineWriter passes what is logged on.
type lineWriter chan string

func (w lineWriter) Write(b []byte) (int, error) {
	w <- string(b)
	return len(b), nil
}

// TestOrderByTimeLosesNothing: topics and partitions on all shards, some of them
// silent for a while, messages from a byte to more than may be held. Each comes
// once, in the order of its partition; what is not late is in order of time; with
// more than may be held at hand, its bytes are let go of.
func TestOrderByTimeLosesNothing(t *testing.T) {
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 3))
		fake := NewFake()
		makeTopics(t, fake, 3, "a", "b.x", "b.y")
		names := []string{"a", "b.x", "b.y"}
		srv, err := New(Options{Backend: fake, Clock: fakeClock()})
		if err != nil {
			t.Fatal(err)
		}
		ours, theirs := net.Pipe()
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan struct{})
		go func() { srv.serveConn(ctx, ctx, theirs); close(served) }()
		total := 0
		put := func() {
			size := 1
			if rng.IntN(6) == 0 {
				size = 1 + rng.IntN(orderBytes/2)
			}
			fake.Append(names[rng.IntN(3)], uint32(rng.IntN(3)), oneRecord(t, strings.Repeat("x", size)))
			total++
		}
		for range 40 {
			put()
		}
		maxDelay := []string{"1ms", "30ms"}[seed%2]
		go func() { _, _ = io.WriteString(ours, "SUB a,b.> s from=earliest order=time maxdelay="+maxDelay+"\n") }()
		r := wire.NewReplyReader(ours, 0)
		var p wire.Reply
		next := func(kind wire.Kind) {
			t.Helper()
			_ = ours.SetReadDeadline(timesvc.NewSystem(timesvc.Skew{}).Now().Add(20 * time.Second))
			if err := r.Next(&p); err != nil || p.Kind != kind {
				t.Fatalf("seed %d: kind %d, %v, %v", seed, p.Kind, p.Err, err)
			}
		}
		next(wire.KindHello)
		next(wire.KindSub)
		offsets := map[string]uint64{}
		var high uint64
		for got := 0; got < total; got++ {
			next(wire.KindMessage)
			m := &p.Message
			key := fmt.Sprint(m.Topic, m.Partition)
			if m.Offset != offsets[key] || m.Late != (m.TS < high) {
				t.Fatalf("seed %d: %s %d, want %d; ts=%d after %d, late=%v", seed, key, m.Offset, offsets[key], m.TS, high, m.Late)
			}
			offsets[key]++
			high = max(high, m.TS)
			if total < 250 {
				put()
				switch group := 1 + rng.Uint64N(4); rng.IntN(8) {
				case 0:
					fake.Silence(group)
				case 1, 2:
					fake.Speak(group)
				}
			}
		}
		ours.Close()
		cancel()
		<-served
		if n := fake.Watches(); n != 0 {
			t.Errorf("seed %d: %d watches were never stopped", seed, n)
		}
	}
}

// TestOrderByTimeHoldsLittle: with a shard silent, every partition has a message
// that waits, and all together hold no more bytes than they may.
func TestOrderByTimeHoldsLittle(t *testing.T) {
	fake := NewFake()
	names := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	makeTopics(t, fake, 1, names...)
	s := newTestSession(t, fake)
	sub := newSubscription(s, &wire.Request{Verb: wire.Sub, SID: "s", ByTime: true, MaxDelay: time.Minute,
		Topics: []wire.Topic{{Name: ">", Partition: wire.AnyPartition}}})
	if err := sub.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	sub.emit(nil)
	for group := uint64(1); group <= 4; group++ {
		fake.Silence(group)
	}
	for i := range 3 {
		for _, name := range names {
			fake.Append(name, 0, oneRecord(t, strings.Repeat(name, 400<<10)+fmt.Sprint(i)))
		}
	}
	for range 10 {
		s.pump()
	}
	if len(s.out) > 0 || sub.order.held > orderBytes || sub.order.held == 0 {
		t.Fatalf("%d bytes out, %d held", len(s.out), sub.order.held)
	}
	for group := uint64(1); group <= 4; group++ {
		fake.Speak(group)
	}
	var got strings.Builder
	for s.pump() || len(s.out) > 0 {
		if sub.order.held > orderBytes {
			t.Fatalf("%d held", sub.order.held)
		}
		for line := range strings.Lines(string(s.out)) {
			if !strings.HasPrefix(line, "MSG ") {
				got.WriteString(line[len(line)-3 : len(line)-1])
			}
		}
		s.out = s.out[:0]
	}
	want := ""
	for i := range 3 {
		for _, name := range names {
			want += fmt.Sprint(name, i)
		}
	}
	if got.String() != want || sub.order.held != 0 {
		t.Fatalf("%s, want %s; %d held", got.String(), want, sub.order.held)
	}
	s.end()
}
