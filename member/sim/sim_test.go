package sim

import (
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"testing"
	"testing/cryptotest"
	"time"
)

// setting is a whole number from the environment: WIBER_SIM_SEEDS seeds from
// WIBER_SIM_FIRST on, each with WIBER_SIM_SECONDS of faults; WIBER_SIM_SEED is
// one seed alone.
func setting(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s=%s: %v", name, text, err)
	}
	return n
}

// run runs one seed with raft's randomness made repeatable.
func run(t *testing.T, o Options) (report Report, err error) {
	t.Helper()
	t.Run("", func(t *testing.T) {
		cryptotest.SetGlobalRandom(t, o.Seed)
		report, err = Run(o)
	})
	return report, err
}

// TestSimSeeds is the simulation: faults, then healing, for many seeds.
func TestSimSeeds(t *testing.T) {
	first, seeds := setting(t, "WIBER_SIM_FIRST", 1), setting(t, "WIBER_SIM_SEEDS", 40)
	if one := setting(t, "WIBER_SIM_SEED", 0); one != 0 {
		first, seeds = one, 1
	}
	seconds := setting(t, "WIBER_SIM_SECONDS", 30)
	var sum Report
	for seed := first; seed < first+seeds; seed++ {
		r, err := run(t, Options{Seed: seed, Nodes: nodesOf(seed), Duration: time.Duration(seconds) * time.Second})
		sum.Add(r)
		if err != nil {
			t.Fatalf("%v\n%s\nrun it again: make sim SEED=%d SECONDS=%d", err, r, seed, seconds)
		}
		if testing.Verbose() {
			t.Logf("seed %d: %s trace=%s", seed, r, r.Trace)
		}
	}
	t.Logf("%d seeds: %s", seeds, sum)
	if seeds < 10 {
		return // too few to insist on every kind of trouble
	}
	for what, n := range map[string]int{
		"crashes": sum.Crashes, "torn tails": sum.TornTails, "elections": sum.Elections, "drops": int(sum.Drops),
		"re-proposals": sum.Reproposals, "suppressed duplicates": sum.Suppressed, "late catch-ups": sum.CatchUps,
		"local reads": sum.LocalReads, "session reads": sum.SessionReads, "linearizable reads": sum.LinearizableReads,
		"index files and checkpoints": sum.Settled, "damaged logs": sum.Flips, "logs without their tail": sum.TailsLost, "disk errors": sum.DiskErrors, "erased folders refused": sum.Refused, "pauses": sum.Pauses, "promises": sum.Promises,
		"reads of subscribers": sum.Followed, "acknowledgements": sum.Acked,
	} {
		if n == 0 {
			t.Errorf("no %s in %d seeds: the run proves nothing about them", what, seeds)
		}
	}
}

// TestPlantedBugsAreCaught builds the simulation with one known bug at a time
// and insists that it finds it: a checker that cannot fail proves nothing.
func TestPlantedBugsAreCaught(t *testing.T) {
	for _, bug := range []string{"ack_before_fsync", "dedup_in_memory", "vote_not_persisted", "truncate_on_crc", "read_without_quorum", "promise_unbound"} {
		t.Run(bug, func(t *testing.T) {
			out, err := exec.Command("go", "test", "-count=1", "-v", "-tags", "planted_"+bug, "-run", "^TestThePlantedBugIsCaught$", ".").CombinedOutput()
			caught := regexp.MustCompile(bug + " is caught by seed [0-9]+: .*").Find(out)
			if err != nil || caught == nil {
				t.Fatalf("%v\n%s", err, out)
			}
			t.Logf("%s", caught)
		})
	}
}

// nodesOf makes a tenth of the seeds clusters of five nodes and a tenth of one.
func nodesOf(seed uint64) int {
	switch seed % 10 {
	case 3:
		return 5
	case 7:
		return 1
	}
	return 3
}

// TestSimRepeatsExactly runs a seed twice and compares everything.
func TestSimRepeatsExactly(t *testing.T) {
	o := Options{Seed: 42, Duration: 10 * time.Second}
	a, errA := run(t, o)
	b, errB := run(t, o)
	if a != b || (errA == nil) != (errB == nil) {
		t.Fatalf("the same seed gave\n%+v, %v\nand\n%+v, %v", a, errA, b, errB)
	}
}
