package topics

import "slices"

// RememberedSeqs is how many of a producer's newest numbers are remembered with
// their offsets.
const RememberedSeqs = 1000

// ProducerSilenceUS is the log time after which a silent producer is forgotten.
const ProducerSilenceUS = 7 * 24 * 3600 * 1_000_000

// producerSweepUS is how often, in log time, forgotten producers are cleared.
const producerSweepUS = 3600 * 1_000_000

// producerTable remembers the numbered streams of producers, each for one
// partition.
type producerTable struct {
	slots map[producerKey]uint32
	list  []producer
	free  []uint32
	// sweepAt is the log time of the next clearing; earliest is when the first
	// of the producers known at the last clearing may be forgotten. Neither is
	// observable: whether a producer is forgotten is checked where it is used.
	sweepAt, earliest uint64
}

type producerKey struct {
	producer Hash
	stream   Stream
}

// producer is one producer's state in one partition.
type producer struct {
	key   producerKey
	epoch uint32
	dirty bool
	last  uint64 // its last number
	heard uint64 // stamp of its last command
	runs  []run  // ascending; they cover the newest RememberedSeqs numbers
}

// run says that the numbers seq.. have the offsets offset.., count of them.
type run struct {
	seq, offset uint64
	count       uint32
}

// seqKind is the verdict about a batch's numbers.
type seqKind uint8

const (
	seqNew seqKind = iota
	seqKnown
	seqRefused
)

type seqVerdict struct {
	kind     seqKind
	located  bool   // known: offset is the first number's
	offset   uint64 // known
	expected uint64 // refused: the next number
}

func (t *producerTable) init() { t.slots = map[producerKey]uint32{} }

// find returns the producer's state, nil for one that is unknown or forgotten.
func (t *producerTable) find(k producerKey, now uint64) *producer {
	i, ok := t.slots[k]
	if !ok || now-t.list[i].heard >= ProducerSilenceUS {
		return nil
	}
	return &t.list[i]
}

// check decides whether a batch with the numbers seq..seq+count-1 is new, wholly
// known, or out of order. A batch that is known in part is out of order: it is
// never cut.
func (t *producerTable) check(k producerKey, epoch uint32, seq uint64, count uint32, now uint64) seqVerdict {
	p := t.find(k, now)
	if p == nil || epoch > p.epoch {
		if seq == 1 {
			return seqVerdict{kind: seqNew}
		}
		return seqVerdict{kind: seqRefused, expected: 1}
	}
	end := seq + uint64(count) - 1
	switch {
	case epoch < p.epoch || seq == 0 || end < seq || seq <= p.last && end > p.last || seq > p.last+1:
		return seqVerdict{kind: seqRefused, expected: p.last + 1}
	case seq == p.last+1:
		return seqVerdict{kind: seqNew}
	}
	v := seqVerdict{kind: seqKnown}
	if seq+RememberedSeqs > p.last {
		v.offset, v.located = p.offset(seq)
	}
	return v
}

// offset returns the offset of one of the newest numbers.
func (p *producer) offset(seq uint64) (uint64, bool) {
	i, ok := slices.BinarySearchFunc(p.runs, seq, func(r run, s uint64) int {
		if r.seq+uint64(r.count) <= s {
			return -1
		}
		if r.seq > s {
			return 1
		}
		return 0
	})
	if !ok {
		return 0, false
	}
	return p.runs[i].offset + seq - p.runs[i].seq, true
}

// heard notes that the producer is not silent.
func (t *producerTable) heard(k producerKey, now uint64) {
	if p := t.find(k, now); p != nil {
		p.heard, p.dirty = now, true
	}
}

// add records numbers that check found new.
func (t *producerTable) add(k producerKey, epoch uint32, seq, offset uint64, count uint32, now uint64) {
	p := t.find(k, now)
	if p == nil {
		p = t.fresh(k)
		p.epoch = epoch
	}
	if epoch != p.epoch {
		p.epoch, p.runs = epoch, p.runs[:0]
	}
	p.last, p.heard, p.dirty = seq+uint64(count)-1, now, true
	if n := len(p.runs); n > 0 && p.runs[n-1].offset+uint64(p.runs[n-1].count) == offset && p.runs[n-1].count < 1<<30 {
		p.runs[n-1].count += count
	} else {
		p.runs = append(p.runs, run{seq: seq, offset: offset, count: count})
	}
	t.trim(p)
}

// trim drops the runs that lie wholly below the newest numbers. It waits until
// half of them do, so that each is moved a bounded number of times.
func (t *producerTable) trim(p *producer) {
	if len(p.runs) < 8 || p.last < RememberedSeqs {
		return
	}
	oldest := p.last - RememberedSeqs + 1
	old := 0
	for half := len(p.runs) / 2; old <= half && p.runs[old].seq+uint64(p.runs[old].count) <= oldest; {
		old++
	}
	if old > len(p.runs)/2 {
		p.runs = append(p.runs[:0], p.runs[old:]...)
	}
}

// fresh returns an empty state for k, in place of a forgotten one.
func (t *producerTable) fresh(k producerKey) *producer {
	i, ok := t.slots[k]
	switch n := len(t.free); {
	case ok:
	case n > 0:
		i, t.free = t.free[n-1], t.free[:n-1]
	default:
		i = uint32(len(t.list))
		t.list = append(t.list, producer{})
	}
	t.slots[k] = i
	p := &t.list[i]
	*p = producer{key: k, runs: p.runs[:0]}
	return p
}

// advance clears, once an hour of log time, the producers that are forgotten and
// those of dropped topics.
func (t *producerTable) advance(now uint64, gone func(uid uint64) bool) {
	if now < t.sweepAt {
		return
	}
	t.sweepAt = now + producerSweepUS
	t.earliest = 0
	for i := range t.list {
		p := &t.list[i]
		switch {
		case p.key == (producerKey{}):
		case now-p.heard >= ProducerSilenceUS || gone(p.key.stream.UID):
			delete(t.slots, p.key)
			*p = producer{}
			t.free = append(t.free, uint32(i))
		case t.earliest == 0 || p.heard+ProducerSilenceUS < t.earliest:
			t.earliest = p.heard + ProducerSilenceUS
		}
	}
}

// nextExpiry is when a clearing is worth a Clock on a quiet shard.
func (t *producerTable) nextExpiry() (uint64, bool) {
	if len(t.slots) == 0 {
		return 0, false
	}
	return max(t.sweepAt, t.earliest), true
}
