package raftnode

import (
	"slices"

	"github.com/wiber/wiber/raftnode/wal"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// ConfState is who votes in a group, as a checkpoint keeps it: raft's ConfState,
// encoded so that equal voters give equal bytes.
func ConfState(voters []uint64) ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(&raftpb.ConfState{Voters: slices.Clone(voters)})
}

// CanCheckpoint says whether a state at applied may become a checkpoint: the
// log's durable hard state knows that it is committed (D2). If it does not, the
// next append says so.
func CanCheckpoint(log *wal.WAL, g GroupID, applied uint64) bool {
	hs := log.Group(uint64(g)).Durable()
	return hs != nil && hs.GetCommit() >= applied
}
