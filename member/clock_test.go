package member

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/wiber/wiber/raftnode"
	"github.com/wiber/wiber/timesvc"
	"github.com/wiber/wiber/topics"
)

// stamped is a group whose last stamp a test sets.
type stamped struct {
	*topics.Broker
	last topics.Stamp
}

func (s *stamped) LastStamp() topics.Stamp { return s.last }

// TestStampsAhead: that a group's stamps run more than 500 ms ahead of the
// reference time is said once, shown while it is so, and its end is said.
func TestStampsAhead(t *testing.T) {
	var said bytes.Buffer
	now := int64(1_795_341_600_000_000)
	sm := &stamped{Broker: topics.NewBroker()}
	g := &group{id: raftnode.GroupID(1), sm: sm}
	e := &Engine{groups: []*group{g}, c: EngineConfig{
		Reference: func() (int64, int64) { return now, -1 },
		Logger:    slog.New(slog.NewTextHandler(&said, nil)),
	}}
	for _, step := range []struct {
		passed, ahead int64 // since the last step; of the stamp beside the reference time
		shown         int64
		says          string
	}{
		{0, -1_000_000, 0, ""},
		{1_000, 500_000, 0, ""},
		{1_000, 500_001, 500_001, "level=WARN msg=\"stamps are more than 500 ms ahead"},
		{1_000, 3_000_000, 3_000_000, ""},
		{2_400_000, 600_000, 600_000, ""},
		{100_001, 499_999, 0, "level=INFO msg=\"stamps are no longer ahead"},
		{1_000, -5, 0, ""},
		{1_000, 700_000, 700_000, "level=WARN"},
	} {
		now += step.passed
		sm.last = topics.Stamp{TS: uint64(now + step.ahead), Lamport: 7}
		said.Reset()
		e.watchStampsLocked(g)
		if got := e.Ahead()[g.id]; got != step.shown {
			t.Fatalf("%+v: shows %d", step, got)
		}
		if text := said.String(); (text == "") != (step.says == "") || !strings.Contains(text, step.says) {
			t.Fatalf("%+v: says %q", step, text)
		}
	}
	if e.Lamport() != 7 {
		t.Fatalf("Lamport %d", e.Lamport())
	}
}

// A node says of another what that one says of itself, while it can be believed,
// with an eps that covers its own reading.
func TestClockLineOfAPeer(t *testing.T) {
	for want, p := range map[string]timesvc.PeerStatus{
		"synchronised 12":   {State: timesvc.PeerOK, Known: true, Bound: 12, Heard: true, Eps: 9, Says: timesvc.Synchronised},
		"holdover 90":       {State: timesvc.PeerOK, Known: true, Bound: 12, Heard: true, Eps: 90, Says: timesvc.Holdover},
		"unsynchronised -1": {State: timesvc.PeerAhead, Known: true, Bound: 12, Heard: true, Eps: -1, Says: timesvc.Unsyncd},
		"silent 700":        {State: timesvc.PeerSilent, Known: true, Bound: 700, Heard: true, Eps: 9, Says: timesvc.Synchronised},
		"unknown -1":        {State: timesvc.PeerUnknown, Eps: 0, Says: timesvc.Unsyncd},
	} {
		l := clockLine("n2", &p)
		state, eps, _ := strings.Cut(want, " ")
		if l.State != state || (eps == "-1") != (l.Eps == -1) || eps == "12" && l.Eps != 12 || eps == "90" && l.Eps != 90 || eps == "700" && l.Eps != 700 {
			t.Errorf("want %s: %+v", want, l)
		}
	}
}
