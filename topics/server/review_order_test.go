package server

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/wiber/wiber/timesvc"
)

// A topic that is deleted and made anew under the publishes of a connection gets
// those that it had not taken yet in the order in which they were sent: a later
// one, which already knows the new topic, does not overtake them.
func TestOrderHoldsInATopicThatIsMadeAnew(t *testing.T) {
	st := newStory(t)
	st.hear("", 1)
	_ = st.event([]string{"topic", "a"})
	st.fake.Hold()
	say := func(n int) { st.say("", fmt.Sprintf("PUBN a 1 tag=%d\n%d", n, n)) }
	say(0)
	say(1)
	st.fake.WaitHeld(2)
	_ = st.event([]string{"delete", "a"})
	_ = st.event([]string{"topic", "a"})
	say(2)
	st.say("", "PING")
	st.expect("", "PONG") // the third was taken, and is on its way or waits
	st.fake.ReleaseOne(0)
	st.fake.ReleaseOne(0)
	st.fake.WaitHeld(3)
	st.fake.Release()
	st.hear("", 3)
	st.say("", "HISTORY a")
	var order []string
	for i, line := range st.hear("", 7) {
		if i%2 == 1 {
			order = append(order, line)
		}
	}
	if got := strings.Join(order, " "); got != "0 1 2" {
		t.Errorf("sent 0 1 2, the topic has %s", got)
	}
}

// A publish that has time left is not given up because one before it, which
// waits for the same new topic, had less.
func TestAShortTimeoutEndsOnlyItsOwnPublish(t *testing.T) {
	st := newStory(t)
	st.hear("", 1)
	first := true
	st.fake.OnEnsure(func(string) error {
		if !first {
			return nil
		}
		first = false
		pause := timesvc.NewSystem(timesvc.Skew{}).NewTimer(100 * time.Millisecond)
		<-pause.C()
		return context.DeadlineExceeded
	})
	st.say("", "PUBN a 1 timeout=50ms\n0", "PUBN a 1\n1")
	if got := st.hear("", 2); !strings.HasPrefix(got[0], "-ERR NO_QUORUM ") || !strings.HasPrefix(got[1], "+ACK a 0") {
		t.Errorf("heard %q", got)
	}
}

// slowBack is a backend whose disk takes its time.
type slowBack struct {
	*Fake
	takes time.Duration
}

func (b slowBack) ReadBack(s Stream, until uint64, maxBytes int) ([]Stored, error) {
	pause := timesvc.NewSystem(timesvc.Skew{}).NewTimer(b.takes)
	<-pause.C()
	return b.Fake.ReadBack(s, until, maxBytes)
}

// A HISTORY whose messages take long to find has its majority all the same.
func TestALongSearchIsNoLackOfAMajority(t *testing.T) {
	st := newStory(t, func(o *Options) {
		o.ReadTimeout = 50 * time.Millisecond
		o.Backend = slowBack{o.Backend.(*Fake), 40 * time.Millisecond}
	})
	st.hear("", 1)
	_ = st.event([]string{"topic", "a", "2"})
	st.say("", "PUB a/0 x", "PUB a/1 y")
	st.hear("", 2)
	st.say("", "HISTORY a last=1")
	if got := st.hear("", 1); !strings.HasPrefix(got[0], "MSG a/1 ") {
		t.Errorf("heard %q", got)
	}
}
