package member

import (
	"strings"
	"testing"
	"time"
)

// The last node of a cluster that is stopped as a whole has nobody to wait for:
// it says of what is under way that nobody knows, and ends.
func TestTheLastNodeEndsWithRequestsUnderWay(t *testing.T) {
	c := testCluster(t, 3)
	nodes := map[string]*testNode{}
	for _, s := range c.Spec.Nodes {
		nodes[s.ID] = startNode(t, c, s.ID)
	}
	v := dialNode(t, c, "n3")
	if got := v.ask("PUB orders first"); !strings.HasPrefix(got, "+ACK orders 0 ") {
		t.Fatal(got)
	}
	for _, id := range []string{"n1", "n2"} {
		if err := nodes[id].end(t); err != nil {
			t.Fatalf("%s: %v", id, err)
		}
	}
	v.say("PUBN orders 6 tag=a\nsecond")
	if got := v.ask("PING"); got != "PONG" { // the publish was taken, and waits
		t.Fatal(got)
	}
	began := time.Now()
	ended := make(chan error, 1)
	go func() { ended <- nodes["n3"].end(t) }()
	if got := v.line(); !strings.HasPrefix(got, "-ERR TIMEOUT ") && !strings.HasPrefix(got, "-ERR NO_QUORUM ") {
		t.Errorf("the publish is answered with %q", got)
	}
	v.c.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("it took %v to end", took)
	}
}
