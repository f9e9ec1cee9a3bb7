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
