package topics

import (
	"cmp"
	"slices"
)

// RememberedResults is how many of an origin's newest results are remembered,
// and so how many of its requests may be unanswered.
const RememberedResults = 4096

// origins is the replicated state of the request streams: one per raft id.
type origins struct {
	list []*origin // sorted by raft id
}

// origin is the stream of one node's newest incarnation.
type origin struct {
	Origin
	next  uint64 // the number that Apply takes next
	saved uint64 // the results of lower numbers are in a checkpoint
	// ring holds the results of the newest numbers; number n is at
	// (n-1) % RememberedResults. It grows up to that length.
	ring []Result
}

func (os *origins) find(raftID uint64) (int, bool) {
	return slices.BinarySearchFunc(os.list, raftID, func(o *origin, id uint64) int { return cmp.Compare(o.RaftID, id) })
}

func (os *origins) next(o Origin) (uint64, bool) {
	i, ok := os.find(o.RaftID)
	if !ok || os.list[i].Counter < o.Counter {
		return 1, true
	}
	return os.list[i].next, os.list[i].Counter == o.Counter
}

// expecting returns o's stream if number is its next, else nil. The first number
// of a higher counter replaces the stream.
func (os *origins) expecting(o Origin, number uint64) *origin {
	if next, ok := os.next(o); !ok || next != number {
		return nil
	}
	i, ok := os.find(o.RaftID)
	if !ok {
		os.list = slices.Insert(os.list, i, &origin{Origin: o, next: 1})
	}
	s := os.list[i]
	if s.Counter != o.Counter {
		s.Origin, s.next, s.saved, s.ring = o, 1, 0, s.ring[:0]
	}
	return s
}

func (o *origin) remember(r Result) {
	if at := int((r.Number - 1) % RememberedResults); at < len(o.ring) {
		o.ring[at] = r
	} else {
		o.ring = append(o.ring, r)
	}
	o.next = r.Number + 1
}

func (os *origins) remembered(o Origin, number uint64) (Result, bool) {
	i, ok := os.find(o.RaftID)
	if !ok || os.list[i].Origin != o {
		return Result{}, false
	}
	s := os.list[i]
	if number == 0 || number >= s.next || s.next-number > RememberedResults {
		return Result{}, false
	}
	return s.ring[(number-1)%RememberedResults], true
}
