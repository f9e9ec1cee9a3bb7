//go:build planted_read_without_quorum

package raftnode

const plantedReadWithoutQuorum = true
