package gossip

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// State is what this node thinks of a node.
type State string

// The states of a node; the package's comment says what they mean.
const (
	Unknown State = "unknown"
	Alive   State = "alive"
	Suspect State = "suspect"
	Dead    State = "dead"
	Left    State = "left"
)

// Member is one node of the cluster as this node sees it.
type Member struct {
	Node  string
	State State
	Since time.Time // wall clock
	Meta  Meta      // what it said last; zero if it never did
}

// view turns what is heard of nodes into their states. It knows the cluster's
// nodes beforehand; what is said of others is not taken.
//
// Heard, left and dead come from memberlist's goroutines, tick from Gossip's.
type view struct {
	suspectAfter time.Duration

	mu       sync.Mutex // guards what follows; a leaf
	members  map[string]*seen
	lastTick time.Duration
}

// seen is a Member and when it was last heard of, on the clock's Mono.
type seen struct {
	Member
	heard time.Duration
}

// change is a member whose state has changed, and what it was before.
type change struct {
	Member
	before State
}

func newView(nodes []string, suspectAfter time.Duration, wall time.Time, mono time.Duration) *view {
	v := &view{suspectAfter: suspectAfter, members: make(map[string]*seen), lastTick: mono}
	for _, n := range nodes {
		v.members[n] = &seen{Member: Member{Node: n, State: Unknown, Since: wall}}
	}
	return v
}

// heard says that a node lived a moment ago; meta, if not nil, is what it said.
func (v *view) heard(node string, meta *Meta, wall time.Time, mono time.Duration) *change {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.members[node]
	if s == nil {
		return nil
	}
	if meta != nil && meta.olderThan(&s.Meta) {
		return nil // somebody passed on an old message
	}
	s.heard = mono
	to := Alive
	if meta != nil {
		s.Meta = meta.clone()
	} else if s.State == Left || s.State == Unknown {
		return nil // an answer to a probe from before it left; it will say that it is back
	}
	if s.Meta.Leaving {
		to = Left
	}
	return s.turn(to, wall)
}

// gone says that memberlist has given a node up, or has heard that it leaves.
func (v *view) gone(node string, wall time.Time) *change {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.members[node]
	if s == nil || s.State == Unknown {
		return nil
	}
	if s.Meta.Leaving {
		return s.turn(Left, wall)
	}
	return s.turn(Dead, wall)
}

// tick suspects who was not heard of for too long. After a pause of this very
// process, or of its machine, everybody gets the whole time again: it was this
// node that was away.
func (v *view) tick(wall time.Time, mono time.Duration) (changes []change) {
	v.mu.Lock()
	defer v.mu.Unlock()
	paused := mono-v.lastTick > v.suspectAfter/2
	v.lastTick = mono
	for _, s := range v.members {
		if s.State != Alive {
			continue
		}
		if paused {
			s.heard = mono
		} else if mono-s.heard >= v.suspectAfter {
			changes = append(changes, *s.turn(Suspect, wall))
		}
	}
	return changes
}

// turn changes a member's state; nil if it is that already.
func (s *seen) turn(to State, wall time.Time) *change {
	if s.State == to {
		return nil
	}
	c := &change{before: s.State}
	s.State, s.Since = to, wall
	c.Member = s.Member
	return c
}

// list returns all members in the order of their names.
func (v *view) list() []Member {
	v.mu.Lock()
	defer v.mu.Unlock()
	all := make([]Member, 0, len(v.members))
	for _, s := range v.members {
		m := s.Member
		m.Meta = m.Meta.clone()
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b Member) int { return cmp.Compare(a.Node, b.Node) })
	return all
}

// missing returns the nodes that are not part of the conversation: never heard of,
// dead, or gone.
func (v *view) missing(of []string) (names []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, n := range of {
		if s := v.members[n]; s != nil && s.State != Alive && s.State != Suspect {
			names = append(names, n)
		}
	}
	return names
}
