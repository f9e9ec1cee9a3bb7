// Package gossip says which nodes of the cluster are around, and what they say of
// themselves. It is a hint for people and pages: nothing that raft decides (votes,
// leaders, voters, commits) may depend on it, because with three nodes a false
// suspicion is normal.
//
// Inside is hashicorp/memberlist, which probes, suspects and declares dead, over
// the packets and connections that the peer port hands in. All of it is encrypted
// with a key of the cluster and labelled with the cluster's id.
//
// Once a second each node tells the others its Meta, with a number that rises (a
// beat). Whoever hears one, from the node or through others, knows that it lived a
// moment ago, and memberlist forgets a suspicion of before. So a State is:
//
//	unknown  never heard of since this node started
//	alive    a beat, or an answer to a probe, came within SuspectAfter
//	suspect  none came, and memberlist has not given up yet
//	dead     memberlist has given up: no answer to probes, directly or through others
//	left     the node said that it stops
//
// memberlist does not tell its own suspicions, so they are not in State; with
// the settings below both come within seconds of each other.
//
// Not here: evidence for elections (raftnode: a connection that closed). Start
// reading at Gossip.Run, then view.
package gossip
