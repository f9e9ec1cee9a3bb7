//go:build planted_ack_before_fsync || planted_dedup_in_memory || planted_vote_not_persisted || planted_truncate_on_crc || planted_read_without_quorum || planted_promise_unbound

package sim

import (
	"testing"
	"time"
)

// TestThePlantedBugIsCaught exists only in builds with a planted bug, which
// TestPlantedBugsAreCaught makes: the simulation must find it within 40 seeds.
func TestThePlantedBugIsCaught(t *testing.T) {
	const seeds = 40
	for seed := uint64(1); seed <= seeds; seed++ {
		if _, err := run(t, Options{Seed: seed, Duration: 30 * time.Second}); err != nil {
			t.Logf("%s is caught by seed %d: %v", planted, seed, err)
			return
		}
	}
	t.Fatalf("%s is not caught within %d seeds", planted, seeds)
}
