//go:build planted_ack_before_fsync

package raftnode

const plantedAckBeforeFsync = true
