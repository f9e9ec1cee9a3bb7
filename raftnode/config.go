package raftnode

import (
	"errors"
	"fmt"
	"slices"
)

// withDefaults returns a copy with every zero replaced, or what is wrong.
func (c Config) withDefaults() (Config, error) {
	if c.ID == 0 || !slices.Contains(c.Voters, c.ID) {
		return c, fmt.Errorf("raftnode: node %d is not one of the voters %v", c.ID, c.Voters)
	}
	if v := slices.Clone(c.Voters); !distinct(v) || slices.Contains(v, 0) {
		return c, fmt.Errorf("raftnode: voters %v: each must be there once and not be 0", c.Voters)
	}
	if len(c.Groups) == 0 || !distinct(slices.Clone(c.Groups)) {
		return c, fmt.Errorf("raftnode: groups %v: at least one, and each once", c.Groups)
	}
	if c.Incarnation == 0 {
		return c, errors.New("raftnode: the incarnation is 0: it must be one that no earlier start had")
	}
	if c.Proposer == nil {
		c.Proposer = func(GroupID) Proposer { return nil }
	}
	if c.Applied == nil {
		c.Applied = func(GroupID) uint64 { return 0 }
	}
	def(&c.ElectionTicks, 10)
	def(&c.HeartbeatTicks, 1)
	def(&c.SpreadTicks, 3*c.ElectionTicks)
	def(&c.MaxMessageBytes, 1<<20)
	def(&c.MaxInflightMessages, 256)
	def(&c.MaxInflightBytes, max(4<<20, c.MaxMessageBytes))
	def(&c.MaxUncommittedBytes, 64<<20)
	def(&c.MaxApplyBytes, 8<<20)
	def(&c.MaxAppendBytes, 16<<20)
	if c.HeartbeatTicks < 1 || c.ElectionTicks <= c.HeartbeatTicks {
		return c, fmt.Errorf("raftnode: %d election ticks with %d heartbeat ticks: an election must take longer than a heartbeat", c.ElectionTicks, c.HeartbeatTicks)
	}
	if c.SpreadTicks < 0 || c.MaxInflightMessages < 0 {
		return c, errors.New("raftnode: a limit is negative")
	}
	if c.MaxMessageBytes > MaxEntryBytes {
		return c, fmt.Errorf("raftnode: messages of %d bytes do not fit a frame between nodes: at most %d", c.MaxMessageBytes, MaxEntryBytes)
	}
	if c.MaxInflightBytes < c.MaxMessageBytes {
		return c, fmt.Errorf("raftnode: %d bytes in flight do not hold one message of %d", c.MaxInflightBytes, c.MaxMessageBytes)
	}
	return c, nil
}

func def[T int | uint64](v *T, to T) {
	if *v == 0 {
		*v = to
	}
}

func distinct[T GroupID | uint64](s []T) bool {
	slices.Sort(s)
	return len(slices.Compact(s)) == len(s)
}
