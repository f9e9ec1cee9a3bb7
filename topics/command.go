package topics

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Kind says what a command does. It is part of the entry format.
type Kind uint8

// The kinds of commands: those of a data shard, then those of the catalogue.
const (
	KindPublish   Kind = 1
	KindConfigure Kind = 2
	KindDrop      Kind = 3
	KindClock     Kind = 4
	KindRefused   Kind = 5
	KindLimits    Kind = 6

	KindForm   Kind = 16
	KindEnter  Kind = 17
	KindCreate Kind = 18
	KindPut    Kind = 19
	KindDelete Kind = 20
	KindSecret Kind = 21
)

// repeatsStamp reports whether commands of this kind repeat the stamp before
// them instead of having one of their own.
func (k Kind) repeatsStamp() bool {
	return k == KindConfigure || k == KindDrop || k == KindRefused || k == KindLimits
}

// version is the lowest entry version that knows a kind.
func (k Kind) version() byte {
	if k == KindSecret {
		return 2
	}
	return 1
}

// EntryVersion is the highest version of an entry that this program reads; the
// version is the first byte of an entry's payload. An entry is written with the
// lowest version that knows its commands, so that nodes of an older program go on
// as long as nothing is in the log that they would decide differently.
const EntryVersion = 2

// Limits of the entry format. A decoder refuses what lies beyond them before it
// allocates anything.
const (
	// HeaderBytes is the size of a command's header, its length field included.
	HeaderBytes = 49
	// MaxCommandBytes bounds one command.
	MaxCommandBytes = 64 << 20
	// MaxNameBytes bounds a topic's name.
	MaxNameBytes = 249
	// MaxNodeNameBytes bounds a node's name.
	MaxNodeNameBytes = 253
	// MaxNodes bounds the nodes of a cluster.
	MaxNodes = 1024
	// MaxShards bounds the data shards of a cluster.
	MaxShards = 4096
	// MaxPartitions bounds the partitions of a topic.
	MaxPartitions = 65536
	// MaxAnnotations bounds the annotations of a topic.
	MaxAnnotations = 64
	// MaxAnnotationBytes bounds a key or a value of an annotation.
	MaxAnnotationBytes = 4096
	// MaxDedupIDs bounds the ids that a shard remembers.
	MaxDedupIDs = 1 << 28
)

// ErrMalformed is the root of every error of this package's decoders.
var ErrMalformed = errors.New("topics: malformed")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// Stamp is what a leader gives to a command.
type Stamp struct {
	TS      uint64 // microseconds
	EPS     int64  // microseconds, -1 when unsynchronised
	Lamport uint64
}

// Command is one decoded command of an entry. Body aliases the entry's data.
type Command struct {
	Kind   Kind
	Origin Origin // zero for a leader's own commands
	Number uint64
	Stamp  Stamp
	Body   []byte
	// version is that of the entry: a kind that it does not know has no effect.
	version byte
	// Delta is where the command's first byte lies in the entry's data, Len its
	// whole length.
	Delta int
	Len   int
}

// Publish is the body of a publish command.
type Publish struct {
	UID       uint64
	Partition uint32
	// ID is HashID of the message's id, if HasID.
	HasID bool
	ID    Hash
	// Producer is HashProducer of the producer's name, if HasProducer; Seq is
	// the number of the batch's first record, from 1.
	HasProducer bool
	Producer    Hash
	Epoch       uint32
	Seq         uint64
	// Batch is one record batch of version 2, untouched.
	Batch []byte
}

// Hash is a 128-bit hash of an id or of a producer's name.
type Hash [16]byte

const (
	flagID       = 1
	flagProducer = 2
)

// NewPublish makes the request that publishes p. lamport is the client's, 0 for
// none; catalogue is the catalogue index at which the topic was resolved.
func NewPublish(p Publish, lamport, catalogue uint64) Request {
	body := make([]byte, 0, publishOverhead(p)+len(p.Batch))
	return Request{Kind: KindPublish, Lamport: lamport, Catalogue: catalogue, Body: appendPublish(body, p)}
}

func publishOverhead(p Publish) int {
	n := 13
	if p.HasID {
		n += 16
	}
	if p.HasProducer {
		n += 28
	}
	return n
}

func appendPublish(b []byte, p Publish) []byte {
	var flags byte
	if p.HasID {
		flags |= flagID
	}
	if p.HasProducer {
		flags |= flagProducer
	}
	b = binary.LittleEndian.AppendUint64(b, p.UID)
	b = binary.LittleEndian.AppendUint32(b, p.Partition)
	b = append(b, flags)
	if p.HasID {
		b = append(b, p.ID[:]...)
	}
	if p.HasProducer {
		b = append(b, p.Producer[:]...)
		b = binary.LittleEndian.AppendUint32(b, p.Epoch)
		b = binary.LittleEndian.AppendUint64(b, p.Seq)
	}
	return append(b, p.Batch...)
}

// decodePublish reads a publish command's body; Batch aliases it.
func decodePublish(b []byte) (p Publish, err error) {
	if len(b) < 13 {
		return p, malformed("a publish of %d bytes", len(b))
	}
	p.UID = binary.LittleEndian.Uint64(b)
	p.Partition = binary.LittleEndian.Uint32(b[8:])
	flags := b[12]
	b = b[13:]
	if flags&^(flagID|flagProducer) != 0 {
		return p, malformed("publish flags %#x", flags)
	}
	if flags&flagID != 0 {
		if len(b) < 16 {
			return p, malformed("a publish without its id")
		}
		p.HasID, p.ID = true, Hash(b[:16])
		b = b[16:]
	}
	if flags&flagProducer != 0 {
		if len(b) < 28 {
			return p, malformed("a publish without its producer")
		}
		p.HasProducer, p.Producer = true, Hash(b[:16])
		p.Epoch = binary.LittleEndian.Uint32(b[16:])
		p.Seq = binary.LittleEndian.Uint64(b[20:])
		b = b[28:]
	}
	p.Batch = b
	return p, nil
}

// Stored is a publish command read back from the log: what its receipt said.
type Stored struct {
	Origin Origin
	Stamp  Stamp
	Publish
}

// DecodeStored reads the bytes that a StreamRecord points at. Batch aliases b.
func DecodeStored(b []byte) (Stored, error) {
	c, rest, err := decodeCommand(b)
	if err != nil {
		return Stored{}, err
	}
	if c.Kind != KindPublish || len(rest) != 0 {
		return Stored{}, malformed("not one publish command")
	}
	p, err := decodePublish(c.Body)
	if err != nil {
		return Stored{}, err
	}
	return Stored{Origin: c.Origin, Stamp: c.Stamp, Publish: p}, nil
}

// appendHeader appends a command's header for a body of n bytes.
func appendHeader(b []byte, kind Kind, o Origin, number uint64, s Stamp, n int) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(HeaderBytes-4+n))
	b = append(b, byte(kind))
	b = binary.LittleEndian.AppendUint64(b, o.RaftID)
	b = binary.LittleEndian.AppendUint64(b, o.Counter)
	b = binary.LittleEndian.AppendUint64(b, number)
	b = binary.LittleEndian.AppendUint64(b, s.TS)
	b = binary.LittleEndian.AppendUint32(b, uint32(int32(s.EPS)))
	return binary.LittleEndian.AppendUint64(b, s.Lamport)
}

// AppendCommand appends one command to an entry's payload. It is what a leader
// does in NextEntry; tests and tools use it to write entries by hand.
func AppendCommand(b []byte, c Command) []byte {
	if len(b) == 0 {
		b = append(b, 1)
	}
	b[0] = max(b[0], c.Kind.version())
	b = appendHeader(b, c.Kind, c.Origin, c.Number, c.Stamp, len(c.Body))
	return append(b, c.Body...)
}

func decodeCommand(b []byte) (c Command, rest []byte, err error) {
	if len(b) < HeaderBytes {
		return c, nil, malformed("%d bytes left where a command should begin", len(b))
	}
	n := binary.LittleEndian.Uint32(b)
	if n < HeaderBytes-4 || n > MaxCommandBytes || int(n)+4 > len(b) {
		return c, nil, malformed("a command of %d bytes with %d left", n, len(b))
	}
	c.Len = int(n) + 4
	c.Kind = Kind(b[4])
	c.Origin.RaftID = binary.LittleEndian.Uint64(b[5:])
	c.Origin.Counter = binary.LittleEndian.Uint64(b[13:])
	c.Number = binary.LittleEndian.Uint64(b[21:])
	c.Stamp.TS = binary.LittleEndian.Uint64(b[29:])
	c.Stamp.EPS = int64(int32(binary.LittleEndian.Uint32(b[37:])))
	c.Stamp.Lamport = binary.LittleEndian.Uint64(b[41:])
	c.Body = b[HeaderBytes:c.Len:c.Len]
	return c, b[c.Len:], nil
}

// Commands iterates the commands of an entry's payload.
//
//	it := Commands(entry.Data)
//	for it.Next() { … it.Command … }
//	if it.Err() != nil { … }
type CommandIterator struct {
	Command Command
	data    []byte
	rest    []byte
	err     error
}

// Commands starts an iteration over the payload of an entry. An empty payload
// has no commands.
func Commands(data []byte) CommandIterator {
	it := CommandIterator{data: data}
	if len(data) == 0 {
		return it
	}
	if data[0] < 1 || data[0] > EntryVersion {
		it.err = malformed("an entry of version %d; this program reads versions 1 to %d", data[0], EntryVersion)
		return it
	}
	it.rest = data[1:]
	return it
}

// Next steps to the next command; false at the end or at damage (Err).
func (it *CommandIterator) Next() bool {
	if it.err != nil || len(it.rest) == 0 {
		return false
	}
	delta := len(it.data) - len(it.rest)
	c, rest, err := decodeCommand(it.rest)
	if err != nil {
		it.err = err
		return false
	}
	c.Delta, c.version = delta, it.data[0]
	it.Command, it.rest = c, rest
	return true
}

// Err is what ended the iteration, nil at the end of the payload.
func (it *CommandIterator) Err() error { return it.err }
