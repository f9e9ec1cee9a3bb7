//go:build !planted_vote_not_persisted

package raftnode

// plantedVoteNotPersisted is a bug that tests build in to see that it is
// caught: the vote is left out of the hard states that are written.
const plantedVoteNotPersisted = false
