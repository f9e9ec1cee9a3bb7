package topics

import (
	"encoding/binary"
	"math/bits"
	"slices"
)

// idTable remembers ids: a hash over (topic, partition, id) -> the offset of its
// first write, until the log's clock passes the expiry that was fixed at that
// write. It is one flat open-addressing table (32 bytes a place, at most four
// fifths of them taken), without a pointer in it.
//
// How many ids are live is counted by whole seconds of expiry, so it depends on
// the log alone and not on when the table was last cleaned.
type idTable struct {
	slots   []idSlot
	used    int // taken places, expired ones included
	now     uint64
	liveIDs uint64
	buckets []idBucket // of live ids, sorted by second
	// fresh are the ids inserted since the last checkpoint; manyFresh says that
	// there were more than are worth listing, and all count as fresh.
	fresh     []Hash
	manyFresh bool
}

// maxFresh bounds idTable.fresh.
const maxFresh = 1 << 19

// idSlot is one remembered id. The stream is part of the hash.
type idSlot struct {
	hash   Hash
	offset uint64
	expiry uint64 // microseconds of log time; 0 = free place
}

type idBucket struct {
	second uint64
	count  uint64
}

const second = 1_000_000 // microseconds

// advance moves the table's time on; whole seconds that have passed expire.
func (t *idTable) advance(now uint64) {
	t.now = now
	passed := 0
	for passed < len(t.buckets) && t.buckets[passed].second < now/second {
		t.liveIDs -= t.buckets[passed].count
		passed++
	}
	if passed > 0 {
		t.buckets = slices.Delete(t.buckets, 0, passed)
	}
}

// live is the number of remembered ids whose second of expiry has not passed.
func (t *idTable) live() uint64 { return t.liveIDs }

// nextExpiry is the end of the first second in which ids expire.
func (t *idTable) nextExpiry() (uint64, bool) {
	if len(t.buckets) == 0 {
		return 0, false
	}
	return (t.buckets[0].second + 1) * second, true
}

func (t *idTable) bucket(sec uint64) *idBucket {
	i, ok := slices.BinarySearchFunc(t.buckets, sec, func(b idBucket, s uint64) int {
		if b.second < s {
			return -1
		}
		if b.second > s {
			return 1
		}
		return 0
	})
	if !ok {
		t.buckets = slices.Insert(t.buckets, i, idBucket{second: sec})
	}
	return &t.buckets[i]
}

// home is the place where a search for h begins.
func (t *idTable) home(h *Hash) int {
	hi, _ := bits.Mul64(binary.LittleEndian.Uint64(h[:8]), uint64(len(t.slots)))
	return int(hi)
}

// find returns the place of h, or the free place where it would go.
func (t *idTable) find(h *Hash) int {
	i := t.home(h)
	for t.slots[i].expiry != 0 && t.slots[i].hash != *h {
		if i++; i == len(t.slots) {
			i = 0
		}
	}
	return i
}

// lookup returns the offset of the first write of h inside its window.
func (t *idTable) lookup(h Hash, now uint64) (offset uint64, ok bool) {
	if len(t.slots) == 0 {
		return 0, false
	}
	s := &t.slots[t.find(&h)]
	if s.expiry <= now { // a free place has expiry 0
		return 0, false
	}
	return s.offset, true
}

// insert remembers h, which is not remembered inside its window. The caller has
// checked that fewer than limit ids are live.
func (t *idTable) insert(h Hash, offset, expiry, limit uint64) {
	if expiry <= t.now {
		return // a window of nothing
	}
	t.room(limit)
	s := &t.slots[t.find(&h)]
	if s.expiry == 0 {
		t.used++
	} else if s.expiry/second >= t.now/second { // expired within this very second
		t.bucket(s.expiry/second).count--
		t.liveIDs--
	}
	*s = idSlot{hash: h, offset: offset, expiry: expiry}
	t.bucket(expiry/second).count++
	t.liveIDs++
	if len(t.fresh) == maxFresh {
		t.fresh, t.manyFresh = nil, true
	}
	if !t.manyFresh {
		t.fresh = append(t.fresh, h)
	}
}

// room makes sure that one more id fits: it grows the table up to what limit
// needs, and cleans it where growing would go beyond that.
func (t *idTable) room(limit uint64) {
	if (t.used+1)*5 <= len(t.slots)*4 {
		return
	}
	// A sixteenth more than the limit, so that cleaning always frees that many.
	most := int(limit+limit/16)*5/4 + 64
	if len(t.slots) >= most {
		t.clean()
		if (t.used+1)*5 <= len(t.slots)*4 {
			return
		}
	}
	n := max(64, 2*len(t.slots))
	if len(t.slots) < most {
		n = min(n, most)
	}
	old := t.slots
	t.slots, t.used = make([]idSlot, n), 0
	for i := range old {
		if old[i].expiry > t.now || old[i].expiry/second >= t.now/second && old[i].expiry != 0 {
			t.slots[t.find(&old[i].hash)] = old[i]
			t.used++
		}
	}
}

// clean frees the places of ids whose second of expiry has passed.
func (t *idTable) clean() {
	start := 0
	for start < len(t.slots) && t.slots[start].expiry != 0 {
		start++
	}
	for n := 1; n <= len(t.slots); n++ {
		i := (start + n) % len(t.slots)
		for t.slots[i].expiry != 0 && t.slots[i].expiry/second < t.now/second {
			t.remove(i)
		}
	}
}

// remove frees place i and moves what was pushed aside by it back.
func (t *idTable) remove(i int) {
	t.used--
	for j := i; ; {
		if j++; j == len(t.slots) {
			j = 0
		}
		if t.slots[j].expiry == 0 {
			break
		}
		home := t.home(&t.slots[j].hash)
		// j's entry may move to i only if its home does not lie between them.
		if i <= j && (home <= i || home > j) || i > j && home <= i && home > j {
			t.slots[i] = t.slots[j]
			i = j
		}
	}
	t.slots[i] = idSlot{}
}
