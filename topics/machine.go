package topics

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// Chain is the running hash of the outcomes of every command of a group. Equal
// logs give equal chains at equal indexes.
type Chain [16]byte

// String returns the chain in hex.
func (c Chain) String() string { return fmt.Sprintf("%x", c[:]) }

// Machine is what Broker and Catalogue have in common, and what a Leader needs.
type Machine interface {
	// Applied is the index and term of the last applied entry.
	Applied() (index, term uint64)
	// NextNumber is the number of o that Apply takes next; false when a newer
	// incarnation has replaced o.
	NextNumber(o Origin) (uint64, bool)
	// Remembered is the result of one of the newest applied numbers of o.
	Remembered(o Origin, number uint64) (Result, bool)
	// LastStamp is the stamp of the last applied command.
	LastStamp() Stamp
	// Chain is the chain hash at the applied index.
	Chain() Chain
}

// DivergedError says that this replica decided otherwise than the leader did:
// one of them is damaged. The process must end.
type DivergedError struct {
	Index        uint64
	Ours, Theirs Chain
}

func (e *DivergedError) Error() string {
	return fmt.Sprintf("topics: this replica's state differs from the leader's at index %d (chain %s, leader %s)", e.Index, e.Ours, e.Theirs)
}

// recentChains is how many chain hashes are kept for comparing.
const recentChains = 256

// machine is the part of the replicated state that Broker and Catalogue share.
type machine struct {
	applied, term uint64
	last          Stamp // of the last command in the log
	chain         Chain
	origins       origins
	saved         bool // a checkpoint was taken, or the state was restored from one

	recent   [recentChains]chainAt // by index modulo its length; not replicated
	outcomes []Outcome             // reused by every apply
	hashing  []byte                // reused by every apply
	result   Result                // reused by every command
}

type chainAt struct {
	index uint64
	chain Chain
}

// executor is what a command does to the rest of the state. It fills in r, or
// returns an error that ends the process.
type executor interface {
	execute(e *Entry, c *Command, r *Result) error
}

// Applied returns the index and term of the last applied entry.
func (m *machine) Applied() (index, term uint64) { return m.applied, m.term }

// LastStamp returns the stamp of the last command in the applied log.
func (m *machine) LastStamp() Stamp { return m.last }

// Chain returns the chain hash at the applied index.
func (m *machine) Chain() Chain { return m.chain }

// ChainAt returns the chain hash at one of the newest applied indexes.
func (m *machine) ChainAt(index uint64) (Chain, bool) {
	at := m.recent[index%recentChains]
	return at.chain, at.index == index && index != 0
}

// NextNumber returns the number of o that is applied next; false when a newer
// incarnation has replaced o.
func (m *machine) NextNumber(o Origin) (uint64, bool) { return m.origins.next(o) }

// Remembered returns the result of one of the newest applied numbers of o.
func (m *machine) Remembered(o Origin, number uint64) (Result, bool) {
	return m.origins.remembered(o, number)
}

// apply is the main path of both state machines: every command of the entry in
// order; the numbers of an origin once each, in order.
func (m *machine) apply(e *Entry, x executor) ([]Outcome, error) {
	if e.Index <= m.applied {
		return nil, nil // a restart replays from before its checkpoint
	}
	if m.applied != 0 && e.Index != m.applied+1 {
		return nil, fmt.Errorf("topics: entry %d follows entry %d", e.Index, m.applied)
	}
	m.outcomes = m.outcomes[:0]
	m.hashing = append(m.hashing[:0], m.chain[:]...)
	m.hashing = binary.LittleEndian.AppendUint64(m.hashing, e.Index)
	empty := len(m.hashing)
	it := Commands(e.Data)
	for it.Next() {
		if err := m.command(e, &it.Command, x); err != nil {
			return nil, err
		}
	}
	if it.Err() != nil {
		return nil, fmt.Errorf("entry %d: %w", e.Index, it.Err())
	}
	m.applied, m.term = e.Index, e.Term
	if len(m.hashing) > empty {
		sum := sha256.Sum256(m.hashing)
		m.chain = Chain(sum[:len(m.chain)])
	}
	m.recent[e.Index%recentChains] = chainAt{e.Index, m.chain}
	return m.outcomes, nil
}

func (m *machine) command(e *Entry, c *Command, x executor) error {
	rises := c.Stamp.TS > m.last.TS
	if rises {
		m.last = c.Stamp
	}
	inOrder := rises || c.Stamp.TS == m.last.TS && c.Kind.repeatsStamp()
	var from *origin
	if c.Origin.RaftID != 0 {
		if from = m.origins.expecting(c.Origin, c.Number); from == nil {
			return nil // applied before, out of order, or of a dead incarnation
		}
	}
	r := &m.result
	*r = Result{
		Number: c.Number, TS: c.Stamp.TS, EPS: c.Stamp.EPS, Lamport: c.Stamp.Lamport,
		Term: e.Term, Index: e.Index,
	}
	if !inOrder {
		r.Code = Disorder
	} else if err := x.execute(e, c, r); err != nil {
		return err
	}
	m.hash(c.Kind, r)
	if from != nil {
		from.remember(*r)
		m.outcomes = append(m.outcomes, Outcome{Origin: c.Origin, Result: *r})
	}
	return nil
}

// hash adds one outcome to what the chain hash of this entry covers.
func (m *machine) hash(k Kind, r *Result) {
	b := m.hashing
	b = append(b, byte(k), byte(r.Code), byte(r.Effect), boolByte(r.Duplicate)|boolByte(r.NoOffset)<<1)
	b = binary.LittleEndian.AppendUint64(b, r.UID)
	b = binary.LittleEndian.AppendUint32(b, r.Partition)
	b = binary.LittleEndian.AppendUint64(b, r.Base)
	b = binary.LittleEndian.AppendUint32(b, r.Count)
	m.hashing = b
}
