package member

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// linkStates is which peers' raft links stand, and since when.
type linkStates struct {
	mu    sync.Mutex // guards peers
	peers map[uint64]linkState
}

type linkState struct {
	peer  uint64
	up    bool
	since time.Time
}

// begin says that no link to these peers stands yet.
func (l *linkStates) begin(peers []uint64, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.peers = make(map[uint64]linkState, len(peers))
	for _, p := range peers {
		l.peers[p] = linkState{peer: p, since: now}
	}
}

func (l *linkStates) set(peer uint64, up bool, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s, ok := l.peers[peer]; ok && s.up != up {
		l.peers[peer] = linkState{peer, up, now}
	}
}

// list returns all links, by raft id.
func (l *linkStates) list() []linkState {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]linkState, 0, len(l.peers))
	for _, s := range l.peers {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b linkState) int { return cmp.Compare(a.peer, b.peer) })
	return all
}
