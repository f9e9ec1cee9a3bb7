// Package timesvc says what time it is.
//
// It is the only package that reads the machine's clock or starts a timer;
// everything else is handed a Clock. What lives here:
//
//   - Clock, with System (the machine's clocks) and Virtual (many nodes' clocks
//     over one simulated time, stepped by hand, firing in one exact order), and
//     Arrivals, the kernel's stamps of packets.
//   - Reference, the cluster's time as one node knows it: microseconds and eps,
//     the half-width of its uncertainty. It probes the other nodes' clocks with
//     four stamps (probe.go), keeps the reading of each that bounds it best
//     (estimate.go), and takes the middle clock (ensemble.go).
//   - Stamper, which turns reference time into stamps that only ever rise. It
//     is a pure machine: no clock, no goroutine, no lock.
//   - Lamport, the logical clock whose value travels with every stamp.
//   - Merge, which puts messages of several sources into the order of their
//     stamps, and says how long to wait for those that are silent.
//
// Nothing here has a goroutine or a socket. What estimates is pure: it is given
// stamps, and asked at a time.
//
// Invariants, each with a test of the same name:
//
//	BoundsHold:         a peer's offset lies within its bound, while no two clocks
//	                    drift apart by more than RhoPPM.
//	ReferenceWithinEps: the reference is off the middle one of the voters' clocks
//	                    by no more than eps; while synchronised it is slewed, and
//	                    never goes back.
//	StampsRise:         each stamp is greater than every stamp given or seen before.
//	EpsCoversAhead:     a stamp's eps includes how far it runs ahead of its clock.
//	LamportBounded:     no Lamport value exceeds MaxLamport.
//
// Not here: who may stamp (topics) and what a stamp orders (topics again), who
// carries probes (member). Why the middle clock: docs/adr/031.md. Start reading
// at Clock, Reference and Stamper.Next.
package timesvc
