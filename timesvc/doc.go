// Package timesvc says what time it is.
//
// It is the only package that reads the machine's clock or starts a timer;
// everything else is handed a Clock. Four things live here:
//
//   - Clock, with System (the machine's clocks) and Virtual (many nodes' clocks
//     over one simulated time, stepped by hand, firing in one exact order).
//   - Reference, the cluster's time as one node knows it: microseconds and eps,
//     the half-width of its uncertainty.
//   - Stamper, which turns reference time into stamps that only ever rise. It
//     is a pure machine: no clock, no goroutine, no lock.
//   - Lamport, the logical clock whose value travels with every stamp.
//
// Invariants, each with a test of the same name:
//
//	StampsRise:     each stamp is greater than every stamp given or seen before.
//	EpsCoversAhead: a stamp's eps includes how far it runs ahead of its clock.
//	LamportBounded: no Lamport value exceeds MaxLamport.
//
// Not here: who may stamp (topics) and what a stamp orders (topics again).
// Start reading at Clock and Stamper.Next.
package timesvc
