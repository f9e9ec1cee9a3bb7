package topics

import (
	"errors"
	"slices"
	"testing"
)

func newForwarder(t *testing.T, o ForwarderOptions) *Forwarder {
	t.Helper()
	o.Origin = n1
	f, err := NewForwarder(o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func submit(t *testing.T, f *Forwarder, token uint64) (ticket uint64) {
	t.Helper()
	ticket, err := f.Submit(Request{Kind: KindPublish, Body: make([]byte, 100)}, token)
	if err != nil {
		t.Fatal(err)
	}
	return ticket
}

// sent drains Outgoing and returns the numbers.
func sent(f *Forwarder) (numbers []uint64) {
	for {
		_, rs := f.Outgoing()
		if len(rs) == 0 {
			return numbers
		}
		for _, r := range rs {
			numbers = append(numbers, r.Number)
		}
	}
}

func tokens(cs []Completion) (ts []uint64) {
	for _, c := range cs {
		ts = append(ts, c.Token)
	}
	return ts
}

func wantNumbers(t *testing.T, got []uint64, want ...uint64) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func TestNothingIsSentWithoutALeader(t *testing.T) {
	f := newForwarder(t, ForwarderOptions{})
	a, b, c := submit(t, f, 11), submit(t, f, 12), submit(t, f, 13)
	wantNumbers(t, sent(f))
	if !f.Withdraw(b) {
		t.Fatal("not withdrawn though it never had a number")
	}
	f.SetLeader(2, 1)
	wantNumbers(t, sent(f), 1, 2)
	if f.Withdraw(a) || f.Withdraw(c) {
		t.Fatal("withdrawn after it was sent")
	}
	wantNumbers(t, tokens(f.Results(n1, []Result{{Number: 2}, {Number: 1}, {Number: 2}})), 13, 11)
	if s, w := f.Pending(); s != 0 || w != 0 {
		t.Fatal(s, w)
	}
}

func TestEverythingUnansweredIsSentAgainInOrder(t *testing.T) {
	f := newForwarder(t, ForwarderOptions{ResendTicks: 2})
	f.SetLeader(2, 1)
	for i := range uint64(4) {
		submit(t, f, i)
	}
	wantNumbers(t, sent(f), 1, 2, 3, 4)
	f.Results(n1, []Result{{Number: 1}, {Number: 3}})
	f.Broken()
	wantNumbers(t, sent(f), 2, 4)
	f.SetLeader(3, 2)
	wantNumbers(t, sent(f), 2, 4)
	f.SetLeader(3, 2)
	wantNumbers(t, sent(f))
	f.Nack(n1, Nack{Expect: 4})
	wantNumbers(t, sent(f), 4)
	f.Nack(n1, Nack{Expect: 4}) // of the same gap
	wantNumbers(t, sent(f))
	f.Tick()
	wantNumbers(t, sent(f))
	f.Tick()
	wantNumbers(t, sent(f), 2, 4)
	f.Tick()
	f.Tick()
	wantNumbers(t, sent(f)) // silence lasts: twice as long
	f.Tick()
	f.Tick()
	wantNumbers(t, sent(f), 2, 4)
	f.Nack(n1, Nack{Expect: 2, Busy: true})
	wantNumbers(t, sent(f))
	f.Tick()
	wantNumbers(t, sent(f), 2, 4)
	if got := f.Results(Origin{1, 0}, []Result{{Number: 2}}); got != nil {
		t.Fatal("an answer to another incarnation counts")
	}
}

// Each message behind a gap is nacked, and with a number of its own while what
// came late is taken in between. None of that may send the window once more.
func TestOneGapIsMendedOnce(t *testing.T) {
	f := newForwarder(t, ForwarderOptions{})
	f.SetLeader(2, 1)
	for i := range uint64(8) {
		submit(t, f, i)
	}
	wantNumbers(t, sent(f), 1, 2, 3, 4, 5, 6, 7, 8)
	f.Nack(n1, Nack{Expect: 3})
	wantNumbers(t, sent(f), 3, 4, 5, 6, 7, 8)
	for _, expect := range []uint64{3, 4, 4, 6, 8} {
		f.Nack(n1, Nack{Expect: expect})
		wantNumbers(t, sent(f))
	}
	submit(t, f, 8)
	wantNumbers(t, sent(f), 9)
	submit(t, f, 9)
	wantNumbers(t, sent(f), 10)
	f.Nack(n1, Nack{Expect: 9}) // another gap, in what was sent later
	wantNumbers(t, sent(f), 9, 10)
	f.Nack(n1, Nack{Expect: 5})
	wantNumbers(t, sent(f))
	f.Tick() // what was sent again is lost, too
	f.Nack(n1, Nack{Expect: 5})
	wantNumbers(t, sent(f), 5, 6, 7, 8, 9, 10)
}

// Over links that keep order, a new leader costs one window sent again and
// nothing else, however long the links and deep the queues are.
func TestABreakResendsOneWindow(t *testing.T) {
	g := newGroup(t)
	s := stream(g.topic("orders", nil), 0)
	f := newForwarder(t, ForwarderOptions{})
	type message struct {
		due      int
		requests []Request
		results  []Result
		nack     *Nack
	}
	var links []message // all take equally long
	const delay, breaks, rounds = 7, 5, 200
	highest, again, allowed, answered := uint64(0), 0, 0, uint64(0)
	token := uint64(0)
	f.SetLeader(2, g.term)
	for now := range breaks * rounds {
		if now%rounds == rounds-1 { // the leader dies with what is on its way to it and from it
			unanswered, _ := f.Pending()
			allowed += unanswered
			links = nil
			g.lead(g.term + 1)
			f.SetLeader(2, g.term)
		}
		for range 3 {
			r := NewPublish(g.message(s, "x"), 0, g.catIdx)
			if _, err := f.Submit(r, token); err != nil {
				t.Fatal(err)
			}
			token++
		}
		for _, rs := f.Outgoing(); len(rs) > 0; _, rs = f.Outgoing() {
			for _, r := range rs {
				if r.Number <= highest {
					again++
				}
				highest = max(highest, r.Number)
			}
			links = append(links, message{due: now + delay, requests: rs})
		}
		for len(links) > 0 && links[0].due == now {
			m := links[0]
			links = links[1:]
			switch {
			case m.requests != nil:
				answers, nack := g.leader.Receive(n1, m.requests)
				links = append(links, message{due: now + delay, results: answers, nack: nack})
				var results []Result
				for _, o := range g.step() {
					results = append(results, o.Result)
				}
				links = append(links, message{due: now + delay, results: results})
			default:
				answered += uint64(len(f.Results(n1, m.results)))
				if m.nack != nil {
					f.Nack(n1, *m.nack)
				}
			}
		}
		if now%delay == 0 {
			f.Tick()
		}
	}
	if again == 0 || again > allowed {
		t.Errorf("%d requests were sent again in %d breaks, when %d were unanswered then", again, breaks, allowed)
	}
	if answered < token*9/10 {
		t.Errorf("%d of %d requests are answered", answered, token)
	}
}

func TestTheWindowSlidesInOrder(t *testing.T) {
	f := newForwarder(t, ForwarderOptions{Window: 4})
	f.SetLeader(2, 1)
	for i := range uint64(20) {
		submit(t, f, i)
	}
	wantNumbers(t, sent(f), 1, 2, 3, 4)
	f.Results(n1, []Result{{Number: 2}, {Number: 3}, {Number: 4}})
	wantNumbers(t, sent(f)) // the leader remembers no more than a window
	f.Results(n1, []Result{{Number: 1}})
	wantNumbers(t, sent(f), 5, 6, 7, 8)
}

func TestBytesAreBounded(t *testing.T) {
	f := newForwarder(t, ForwarderOptions{WindowBytes: 500, QueueBytes: 600, MessageBytes: 400})
	for i := range uint64(3) {
		submit(t, f, i)
	}
	if _, err := f.Submit(Request{Body: make([]byte, 100)}, 9); !errors.Is(err, ErrQueueFull) {
		t.Fatal(err)
	}
	f.SetLeader(2, 1)
	if _, rs := f.Outgoing(); len(rs) != 2 {
		t.Fatalf("%d requests in a message", len(rs))
	}
	wantNumbers(t, sent(f))
	f.Results(n1, []Result{{Number: 1}})
	wantNumbers(t, sent(f), 3)
	if _, err := f.Submit(Request{Body: make([]byte, 10_000)}, 9); err != nil {
		t.Fatalf("an empty queue takes one of any size: %v", err)
	}
	f.Results(n1, []Result{{Number: 2}, {Number: 3}})
	wantNumbers(t, sent(f), 4)
}

func TestAForwarderNeedsAnOrigin(t *testing.T) {
	if _, err := NewForwarder(ForwarderOptions{}); err == nil {
		t.Fatal("no error")
	}
	if _, err := NewForwarder(ForwarderOptions{Origin: n1, Window: -1}); err == nil {
		t.Fatal("no error")
	}
}
