//go:build !planted_ack_before_fsync

package raftnode

// plantedAckBeforeFsync is a bug that tests build in to see that it is caught:
// what must wait for an append leaves at once.
const plantedAckBeforeFsync = false
