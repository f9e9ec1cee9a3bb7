package sim

import (
	"testing"
	"time"
)

// TestThePlantedBugIsCaught runs only in builds with a planted bug (make
// planted): the simulation must find it within 40 seeds.
func TestThePlantedBugIsCaught(t *testing.T) {
	if planted == "" {
		t.Skip("this build has no planted bug; make planted builds them one after the other")
	}
	const seeds = 40
	for seed := uint64(1); seed <= seeds; seed++ {
		if _, err := run(t, Options{Seed: seed, Duration: 30 * time.Second}); err != nil {
			t.Logf("%s is caught by seed %d: %v", planted, seed, err)
			return
		}
	}
	t.Fatalf("%s is not caught within %d seeds", planted, seeds)
}
