// Package topics gives the replicated log its meaning.
//
// Catalogue is the state machine of the catalogue group: which topics and
// nodes exist. Broker is the state machine of a data shard: it decides the
// offset of every published batch and whether the batch is a duplicate.
// Leader is a leader's queue in front of either; Forwarder is a node's ordered
// stream of requests to a group's leader. Reader turns (topic, partition,
// offset) into stored batches.
//
// All but Reader are pure step machines: no goroutine, no clock, no lock, no
// logger, no randomness, and nothing observable depends on the order of a map.
// The caller keeps one lock around the machines of a group.
//
// The way of a publish: NewPublish makes a Request, Forwarder.Submit queues and
// numbers it, Leader.Receive takes it in order, Leader.NextEntry stamps it and
// joins it with others into the payload of one raft entry, Broker.Apply decides
// its outcome on every replica, and Forwarder.Results completes it.
//
// Invariants, each with a test of the same name:
//
//	D5Deterministic: Apply depends on nothing but the log.
//	OnceInOrder:     the numbers of an origin are applied in order, each once.
//	Dense:           the offsets of a partition have no hole.
//	Rising:          the stamps of a log's publishes strictly rise.
//
// Not here: raft (raftnode), sockets (topics/server), files (topics/store), the
// layout of record batches (topics/batch). The layout of an entry's payload is
// docs/format/entry.md. Start reading at Broker.Apply.
package topics
