package raftnode

import (
	"slices"

	"github.com/wiber/wiber/raftnode/wal"
	"go.etcd.io/raft/v3/raftpb"
)

// SetVoters says who votes in a group whose log knows no configuration change:
// the nodes that formed the cluster. It comes before New.
func SetVoters(log *wal.WAL, g GroupID, voters []uint64) {
	log.Group(uint64(g)).SetConfState(&raftpb.ConfState{Voters: slices.Clone(voters)})
}
