package topics

import (
	"sync"
	"testing"
)

// A message whose bytes changed in the log's file is never handed to a reader
// as if it were what somebody had published.
func TestADamagedMessageIsNotRead(t *testing.T) {
	g := newGroup(t)
	uid := g.topic("a", nil)
	s := stream(uid, 0)
	g.publish(g.message(s, "one hundred"))
	r := NewReader(&sync.Mutex{}, g.broker, g.log)
	sound, err := r.At(s, 0)
	if err != nil {
		t.Fatal(err)
	}
	segment := g.log.segments[sound.Pos.Segment]
	segment[sound.Pos.Offset+int64(sound.Len)-3] ^= 1
	if got, err := r.Read(s, 0, 1<<20); err == nil {
		t.Errorf("read %q", got[0].Batch)
	}
	if _, err := r.At(s, 0); err == nil {
		t.Error("the damaged batch counts as a first receipt")
	}
}
