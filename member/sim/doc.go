// Package sim runs whole clusters in one goroutine, with virtual time, disks
// that lose power and a network that loses, delays, repeats and reorders.
//
// The nodes are real: bootstrap, engine, log, state machines, checkpoints. Only
// the seams are virtual (clock, disk, network, manifest, randomness), and the
// goroutines are replaced by one queue of events. The same seed gives the same
// run, event by event; a failing seed is run again with
//
//	make sim SEED=n
//
// A run has two phases, as in TigerBeetle's VOPR: faults, then healing, after
// which everything must come to rest. Checked all the time: at most one leader
// per term, one vote per term and no vote forgotten, equal chain hashes at equal
// indexes (D5), an acknowledged record in the synced log of a majority (D1),
// receipts equal on retry, reads that see what was acknowledged. Checked at the
// end, on every node: each acknowledged message exactly once at its offset,
// each id and seq once, dense offsets, rising stamps, nothing that nobody sent.
//
// That the checks work is shown by planted bugs behind build tags (planted_…),
// each of which must be caught within 40 seeds.
//
// Start reading at Run.
package sim
