// Package member is one node: it joins the log (raftnode), its meaning
// (topics), the clock (timesvc) and the door (topics/server) into a process.
//
// Run is a node from start to end. Inside it, Bootstrap decides how an empty
// folder joins a cluster, Engine is the whole node as a step machine, and the
// loops (loops.go) run the engine with goroutines:
//
//	raft loop    owns the raft groups            waits for no write
//	append loop  owns the log's writer           one fdatasync for all that waits
//	apply loops  one per group, own its state    answer requests, wake readers
//	settle loop  index files and checkpoints
//	spare loop   prepares the log's next segment
//
// Invariants (docs/architecture.md, section 11), with tests that begin with
// their names:
//
//	D2  a checkpoint waits until the log's durable commit covers it; then state
//	    files, one transaction for all manifests, and only then removals.
//	D3  a failed write or sync ends the node.
//	D6  a folder holds cluster id, raft id and uid, synced before the first
//	    vote, and an erased folder never votes.
//
// Not here: what a log entry means (topics), starting and restarting processes
// (controller). Start reading at Run, then Engine.
package member
