package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wiber/wiber/timesvc"
	"github.com/wiber/wiber/topics/wire"
)

// say sends lines on a connection of the story.
func (st *story) say(conn string, lines ...string) {
	st.t.Helper()
	for _, line := range lines {
		if _, err := st.step("C" + conn + ": " + line); err != nil {
			st.t.Fatal(err)
		}
	}
}

// hear returns the next n lines, without the parts that only transcripts check.
func (st *story) hear(conn string, n int) []string {
	st.t.Helper()
	var lines []string
	for range n {
		line, err := st.step("S" + conn + ": ?")
		if err != nil {
			st.t.Fatalf("after %q: %v", lines, err)
		}
		_, line, _ = strings.Cut(line, ": ")
		line, _, _ = strings.Cut(line, " ts=")
		lines = append(lines, line)
	}
	return lines
}

func (st *story) expect(conn string, want ...string) {
	st.t.Helper()
	if got := st.hear(conn, len(want)); !slices.Equal(got, want) {
		st.t.Fatalf("heard\n%s, want\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// eventually waits for a condition that other goroutines bring about.
func eventually(t *testing.T, deadline time.Duration, cond func() bool) {
	t.Helper()
	clock := timesvc.NewSystem(timesvc.Skew{})
	for !cond() {
		if clock.Mono() > deadline {
			t.Fatal("it did not happen")
		}
		runtime.Gosched()
	}
}

func TestPublishesWaitInOrderWhileTheirTopicIsMade(t *testing.T) {
	st := newStory(t)
	st.hear("", 1)
	gate := make(chan struct{})
	st.fake.OnEnsure(func(name string) error {
		if name == "slow" {
			<-gate
		}
		return nil
	})
	st.say("", "PUB slow 0", "PUB slow 1", "PUBN quick 1 tag=q", "x", "PUB slow 2")
	st.expect("", "+ACK quick 0") // nobody else waits for slow
	close(gate)
	st.expect("", "+ACK slow 0", "+ACK slow 1", "+ACK slow 2")
	st.say("", "HISTORY slow")
	st.expect("", "MSG slow - 0", "0", "MSG slow - 1", "1", "MSG slow - 2", "2", "+END slow n=3 next=3 as_of=1795341600000004")
}

func TestManyNewTopicsAtOnce(t *testing.T) {
	st := newStory(t)
	st.hear("", 1)
	const n = 3 * maxEnsuring
	for i := range n {
		st.say("", fmt.Sprintf("PUB t%d x", i))
	}
	for i := range n {
		st.expect("", fmt.Sprintf("+ACK t%d 0", i))
	}
}

func TestATopicThatCannotBeMade(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"in time":     {context.DeadlineExceeded, "-ERR NO_QUORUM topic a could not be found or made in time: nothing was written, try again"},
		"by the node": {wire.Errorf(wire.Busy, "the catalogue is full"), "-ERR BUSY the catalogue is full"},
		"or so":       {wire.Errorf(wire.Timeout, "who knows"), "-ERR NO_QUORUM topic a could not be found or made in time: nothing was written, try again"},
		"by surprise": {errors.New("disk of cheese"), "-ERR INTERNAL internal error; the node's log says more"},
	} {
		t.Run(name, func(t *testing.T) {
			st := newStory(t)
			st.hear("", 1)
			st.fake.OnEnsure(func(string) error { return c.err })
			st.say("", "PUB a x", "PING")
			st.expect("", c.want, "PONG")
		})
	}
}

func TestATopicDeletedUnderAPublishIsResolvedAgain(t *testing.T) {
	st := newStory(t)
	st.hear("", 1)
	if err := st.event([]string{"topic", "a"}); err != nil {
		t.Fatal(err)
	}
	st.fake.Hold()
	st.say("", "PUB a 0", "PUB a 1", "PUB a 2")
	st.fake.WaitHeld(3)
	_ = st.event([]string{"delete", "a"})
	_ = st.event([]string{"topic", "a", "2"})
	st.fake.Release()
	got := st.hear("", 3) // in turn, from whatever partition on
	if !strings.HasPrefix(got[0], "+ACK a/") || got[0] == got[1] || got[0][:8] != got[2][:8] || got[2] != got[0][:8]+" 1" {
		t.Fatalf("heard %q", got)
	}
	st.fake.NoAutoCreate = true
	st.fake.Hold()
	st.say("", "PUB a/0 x", "PING")
	st.fake.WaitHeld(1)
	_ = st.event([]string{"delete", "a"})
	st.fake.Release()
	st.expect("", "-ERR NO_TOPIC no topic a, and publishing makes none here", "PONG")
}

func TestReadsAskForTheirLevel(t *testing.T) {
	st := newStory(t)
	st.hear("", 1)
	st.say("", "PUB a x", "PUB a y")
	st.hear("", 2)
	group := ShardGroup(st.fake.Shard(1, 0))
	var mu sync.Mutex
	var asked []string
	st.fake.OnBarrier(func(_ context.Context, level Level, floors []Floor) error {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, fmt.Sprint(level, floors))
		return nil
	})
	st.say("", "HISTORY a last=1", "HISTORY a last=1 read=linearizable", "HISTORY a last=1 read=local", "TOPICS")
	st.hear("", 11)
	st.say("2", "HISTORY a last=1")
	st.hear("2", 4)
	want := []string{
		fmt.Sprintf("session [{%d 2}]", group),
		fmt.Sprintf("linearizable [{0 0} {%d 2}]", group),
		fmt.Sprintf("local [{%d 2}]", group),
		fmt.Sprintf("session [{%d 2}]", group),
		fmt.Sprintf("session [{%d 0}]", group), // another connection has written nothing
	}
	mu.Lock()
	defer mu.Unlock()
	if !slices.Equal(asked, want) {
		t.Fatalf("asked\n%s, want\n%s", strings.Join(asked, "\n"), strings.Join(want, "\n"))
	}
}

func TestAReadWithoutAMajority(t *testing.T) {
	st := newStory(t, func(o *Options) { o.ReadTimeout = time.Millisecond })
	st.hear("", 1)
	st.say("", "PUB a x")
	st.hear("", 1)
	st.fake.OnBarrier(func(ctx context.Context, _ Level, _ []Floor) error {
		<-ctx.Done()
		return ctx.Err()
	})
	want := "-ERR NO_QUORUM no majority of the nodes answered in time: try again, or ask with read=local"
	st.say("", "HISTORY a read=linearizable", "SUB a", "TOPICS", "PING")
	st.expect("", want, want, want, "PONG")
}

func TestAConnectionTooMany(t *testing.T) {
	st := newStory(t, func(o *Options) { o.MaxConnections = 1 })
	st.hear("", 1)
	st.expect("2", "-ERR BUSY this node has 1 connections, its maximum: try another node, or later")
	if line, _ := st.step("S2: ?"); line != "S2: <EOF>" {
		t.Fatalf("heard %q", line)
	}
	st.say("", "QUIT")
	st.expect("", "+BYE")
	st.conns[""].Close()
	eventually(t, 10*time.Second, func() bool {
		conn, err := net.Dial("tcp", st.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		line, _ := bufio.NewReader(conn).ReadString('\n')
		return strings.HasPrefix(line, "+HELLO")
	})
}

// A client that pipelines without end is read only as far as its budget goes.
func TestUnansweredRequestsAreBounded(t *testing.T) {
	const most = 10
	st := newStory(t, func(o *Options) { o.SessionBytes = most * 700 })
	st.hear("", 1)
	_ = st.event([]string{"topic", "a"})
	st.fake.Hold()
	for i := range 5 * most {
		st.say("", fmt.Sprintf("PUB a %d", i))
	}
	st.fake.WaitHeld(most)
	st.say("2", "PING")
	st.expect("2", "+HELLO wiber/1 node=n1 cluster=demo now=1795341600000000 eps=0 max=100", "PONG")
	st.fake.mu.Lock()
	held := len(st.fake.held)
	st.fake.mu.Unlock()
	if held > most+2 {
		t.Fatalf("%d publishes are unanswered, the budget is for %d", held, most)
	}
	st.fake.Release()
	for i := range 5 * most {
		st.expect("", fmt.Sprintf("+ACK a %d", i))
	}
}

// What one session has unanswered holds up others when the node is full, and no
// longer than that.
func TestTheNodesBudgetIsShared(t *testing.T) {
	st := newStory(t, func(o *Options) { o.NodeBytes = 4 * 700 })
	st.hear("", 1)
	_ = st.event([]string{"topic", "a"})
	st.fake.Hold()
	st.say("", "PUB a 0", "PUB a 1", "PUB a 2", "PUB a 3")
	st.fake.WaitHeld(4)
	st.hear("2", 1)
	st.say("2", "PING")
	st.fake.Release()
	st.expect("2", "PONG")
	st.hear("", 4)
}

func TestBudgetIsGivenInOrder(t *testing.T) {
	b := newBudget(10)
	if n, err := b.acquire(t.Context(), 25); n != 10 || err != nil {
		t.Fatalf("more than all gives %d, %v", n, err)
	}
	got := make(chan int, 3)
	waits := func(n int) func() bool {
		return func() bool { b.mu.Lock(); defer b.mu.Unlock(); return len(b.queue) == n }
	}
	ctx, cancel := context.WithCancel(t.Context())
	gaveUp := make(chan error)
	go func() { _, err := b.acquire(ctx, 10); gaveUp <- err }()
	eventually(t, 10*time.Second, waits(1))
	for i, n := range []int64{8, 1} {
		go func() { _, _ = b.acquire(context.Background(), n); got <- i }()
		eventually(t, 10*time.Second, waits(2+i))
	}
	b.release(5)
	cancel() // the first in the queue leaves; 8 still do not fit, and 1 does not overtake
	if err := <-gaveUp; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	select {
	case i := <-got:
		t.Fatalf("%d overtook", i)
	default:
	}
	b.release(5)
	if a, b := <-got, <-got; a+b != 1 {
		t.Fatal("not both were served")
	}
	b.release(9)
	if b.used != 0 {
		t.Fatalf("%d are still used", b.used)
	}
}

// pipeStory serves one client over a pipe, where a write ends only when all of
// it was read: the test sees when the server is in the middle of one.
func pipeStory(t *testing.T, fake *Fake, v *timesvc.Virtual, change ...func(*Options)) net.Conn {
	o := Options{Backend: fake, Clock: v.Node(timesvc.Skew{}), SlowBehind: 100}
	for _, f := range change {
		f(&o)
	}
	srv, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := net.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan struct{})
	go func() { srv.serveConn(ctx, ctx, theirs); close(served) }()
	t.Cleanup(func() { ours.Close(); cancel(); <-served })
	return ours
}

func preload(t *testing.T, fake *Fake, topic string, n int) {
	t.Helper()
	srv, err := New(Options{Backend: fake, Clock: timesvc.NewSystem(timesvc.Skew{})})
	if err != nil {
		t.Fatal(err)
	}
	s := newSession(srv, nil)
	s.ctx = t.Context()
	q := wire.Request{Verb: wire.Pub, Topic: wire.Topic{Name: topic, Partition: wire.AnyPartition}}
	for i := range n {
		q.Payload = fmt.Appendf(nil, "%0100d", i)
		if err := s.publish(t.Context(), &q); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, 10*time.Second, func() bool {
		list := fake.Topics("", 100)
		i := slices.IndexFunc(list, func(t *Topic) bool { return t.Name == topic })
		if i < 0 {
			return false
		}
		_, next, err := fake.Bounds(Stream{list[i].UID, 0})
		return err == nil && next == uint64(n)
	})
}

func TestASlowSubscriberIsTold(t *testing.T) {
	fake, v := NewFake(), timesvc.NewVirtual(time.UnixMicro(FakeStart))
	preload(t, fake, "a", 2000)
	preload(t, fake, "b", 1)
	conn := pipeStory(t, fake, v)
	in := bufio.NewReaderSize(conn, 16) // reads hardly more than is asked for
	line := func() string {
		s, err := in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSuffix(s, "\n")
	}
	line() // greeting
	go func() { _, _ = io.WriteString(conn, "SUB b keeps\nSUB a slow from=earliest\n") }()
	if got := line(); got != "+SUB keeps" {
		t.Fatal(got)
	}
	if got := line(); got != "+SUB slow" {
		t.Fatal(got)
	}
	line() // of the first message: the server is in the middle of a write
	v.Advance(11 * time.Second)
	sent := 0
	for {
		got := line()
		if strings.HasPrefix(got, "MSG a slow ") {
			sent++
			continue
		}
		if len(got) == 100 {
			continue
		}
		want := fmt.Sprintf("-ERR BUSY sub=slow next=%d behind=%d", sent+1, 2000-sent-1)
		if got != want || sent < 100 {
			t.Fatalf("heard %q after %d messages, want %q", got, sent, want)
		}
		break
	}
	go func() { _, _ = io.WriteString(conn, "UNSUB slow\nUNSUB keeps\nPING\n") }()
	for _, want := range []string{"-ERR RANGE no subscription slow: it never was, or has ended", "+OK", "PONG"} {
		if got := line(); got != want {
			t.Fatalf("heard %q, want %q", got, want)
		}
	}
}

func TestAClientThatTakesNothingIsCut(t *testing.T) {
	fake, v := NewFake(), timesvc.NewVirtual(time.UnixMicro(FakeStart))
	preload(t, fake, "a", 2000)
	conn := pipeStory(t, fake, v)
	in := bufio.NewReaderSize(conn, 16)
	for _, send := range []string{"", "HISTORY a\n"} {
		go func() { _, _ = io.WriteString(conn, send) }()
		if _, err := in.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	v.Advance(59 * time.Second)
	if _, err := in.ReadString('\n'); err != nil {
		t.Fatalf("cut too soon: %v", err)
	}
	v.Advance(time.Second)
	if n, err := io.Copy(io.Discard, in); err != nil || n > flushBytes+1000 {
		t.Fatalf("%d bytes more came, %v", n, err)
	}
}

func TestDrainAnswersWhatWasTaken(t *testing.T) {
	st := newStory(t)
	st.hear("", 1)
	st.hear("idle", 1)
	st.say("", "PUB a 0", "SUB a s", "PING")
	st.expect("", "+ACK a 0", "+SUB s", "PONG")
	st.fake.Hold()
	st.say("", "PUB a 1", "PUBN a 1 tag=t", "2", "HISTORY a")
	st.fake.WaitHeld(2)
	drained := make(chan struct{})
	go func() { st.stop(); close(drained) }()
	if line, _ := st.step("Sidle: ?"); line != "Sidle: <EOF>" {
		t.Fatalf("an idle connection heard %q", line)
	}
	st.conns["idle"].Close()
	st.fake.Release()
	// Whether the subscription still gets the two depends on which session hears of
	// the drain first.
	var got []string
	for len(got) == 0 || !strings.HasPrefix(got[len(got)-1], "+END") {
		line := st.hear("", 1)[0]
		if strings.HasPrefix(line, "MSG a s ") {
			st.hear("", 1)
			continue
		}
		got = append(got, line)
	}
	slices.Sort(got[:2])
	want := []string{"+ACK a 1", "+ACK a 2", "MSG a - 0", "0", "MSG a - 1", "1", "MSG a - 2", "2", "+END a n=3 next=3 as_of=1795341600000003"}
	if !slices.Equal(got, want) {
		t.Fatalf("heard %q", got)
	}
	if line, _ := st.step("S: ?"); line != "S: <EOF>" {
		t.Fatalf("heard %q", line)
	}
	st.conns[""].Close()
	<-drained
	if conn, err := net.Dial("tcp", st.addr); err == nil {
		conn.Close()
		t.Fatal("the server still listens")
	}
}

func TestDrainDoesNotWaitForEver(t *testing.T) {
	v := timesvc.NewVirtual(time.UnixMicro(FakeStart))
	st := newStory(t, func(o *Options) { o.Clock = v.Node(timesvc.Skew{}) })
	st.hear("", 1)
	_ = st.event([]string{"topic", "a"})
	st.fake.Hold()
	st.say("", "PUB a 0")
	st.fake.WaitHeld(1)
	drained := make(chan struct{})
	go func() { st.stop(); close(drained) }()
	eventually(t, 10*time.Second, func() bool {
		d, ok := v.Next()
		return ok && d == 5*time.Second
	})
	v.Advance(5 * time.Second)
	<-drained
	if line, err := st.step("S: ?"); err == nil && line != "S: <EOF>" {
		t.Fatalf("heard %q", line)
	}
	st.fake.Release() // the outcome comes to nobody; the budget gets its bytes back
}

func TestACompletionAfterTheClientLeft(t *testing.T) {
	st := newStory(t, func(o *Options) { o.DrainTimeout = time.Millisecond })
	st.hear("", 1)
	st.fake.Hold()
	st.say("", "PUB a 0", "PUBN a 1 tag=t", "1")
	st.fake.WaitHeld(2)
	st.conns[""].Close()
	st.stop()
	st.fake.Release()
}
