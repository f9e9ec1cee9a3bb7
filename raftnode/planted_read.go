//go:build !planted_read_without_quorum

package raftnode

// plantedReadWithoutQuorum is a bug that tests build in to see that it is
// caught: whoever believes to lead answers reads without asking anybody.
const plantedReadWithoutQuorum = false
