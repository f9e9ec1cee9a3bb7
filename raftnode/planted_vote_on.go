//go:build planted_vote_not_persisted

package raftnode

const plantedVoteNotPersisted = true
