package wire

import (
	"bytes"
	"strconv"
	"strings"
)

// NoOffset is the Offset of a receipt whose offset is no longer known (a
// duplicate older than its producer's last 1,000 messages): "-" on the wire,
// null in JSON.
const NoOffset = ^uint64(0)

// Unsynchronised is the eps of a stamp that no clock vouches for.
const Unsynchronised = -1

// Hello is the greeting of a connection.
type Hello struct {
	Node    string
	Cluster string
	Now     uint64 // the cluster's time at the greeting, microseconds since 1970
	Eps     int64  // its uncertainty, microseconds; Unsynchronised if unknown
	Max     int    // the largest message this node takes, in bytes
}

// Receipt states what an acknowledgement promises. Its JSON is that of the
// command line and HTTP.
type Receipt struct {
	Topic     string
	Partition int
	// Partitioned: the topic has more than one partition, and is written
	// topic/partition on the wire. Not in JSON.
	Partitioned bool
	Offset      uint64 // NoOffset if no longer known
	TS          uint64 // stamp, microseconds since 1970
	Eps         int64  // half-width of the stamp's uncertainty, microseconds
	Lamport     uint64
	Term        uint64
	Index       uint64
	Synced      int // replicas that the leader knows to have it on disk
	Replicas    int // of so many
	Duplicate   bool
}

// Message is one message of a topic, as SUB and HISTORY deliver it. Its JSON is
// that of the command line and HTTP.
type Message struct {
	Topic       string
	Partition   int
	Partitioned bool // as in Receipt
	Offset      uint64
	TS          uint64
	Eps         int64
	Lamport     uint64
	Key         []byte // nil: none
	ID          []byte // nil: none
	Headers     []Header
	Late        bool // came after something younger had been released
	Value       []byte
}

// End closes the answer of HISTORY, and with only N that of TOPICS, INFO and TIME.
type End struct {
	Topic       string // HISTORY: as asked, or with its partition if it has several
	Partition   int
	Partitioned bool
	N           uint64 // lines before this one
	Next        uint64 // HISTORY: where to go on; NoOffset ("-") for a merged topic
	AsOf        uint64 // HISTORY: the stamp up to which the answer is complete
}

// TopicLine is a line of TOPICS: one partition of a topic. A topic with several
// has a line for each, written topic/partition.
type TopicLine struct {
	Topic      string
	Partition  int
	Partitions int
	Shard      int
	Leader     string // a node; "" ("-" on the wire) while there is none
	First      uint64 // the first offset kept
	Next       uint64 // the offset that the next message gets
}

// Field is a name=value of a NODE line.
type Field struct{ Name, Value string }

// NodeLine is a line of INFO: one node, with fields in the order to be shown.
type NodeLine struct {
	Node   string
	Fields []Field
}

// ClockLine is a line of TIME: the clock of one node, as the node that answers
// knows it.
type ClockLine struct {
	Node string
	// Known says whether Offset was ever read; "-" on the wire where not. Offset is
	// how many microseconds the node's own clock is ahead of the cluster's time.
	Known  bool
	Offset int64
	// Eps bounds Offset, and how far the node's stamps are off; Unsynchronised if
	// unknown.
	Eps        int64
	DriftKnown bool
	Drift      float64 // how much faster the clock runs, parts per million
	State      string
	Lamport    uint64
	Test       bool // the clock is wrong on purpose (WIBER_TEST_CLOCK)
}

// Field returns the value of a field, or "".
func (n *NodeLine) Field(name string) string {
	for _, f := range n.Fields {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// AppendHello appends the greeting line and returns the longer slice, as all
// Append functions do. They allocate only if dst must grow.
func AppendHello(dst []byte, h *Hello) []byte {
	dst = appendEscaped(append(dst, "+HELLO wiber/1 node="...), h.Node)
	dst = appendEscaped(append(dst, " cluster="...), h.Cluster)
	dst = strconv.AppendUint(append(dst, " now="...), h.Now, 10)
	dst = strconv.AppendInt(append(dst, " eps="...), h.Eps, 10)
	dst = strconv.AppendInt(append(dst, " max="...), int64(h.Max), 10)
	return append(dst, '\n')
}

// AppendPong appends the answer to PING.
func AppendPong(dst, text []byte) []byte {
	dst = append(dst, "PONG"...)
	if len(text) > 0 {
		dst = append(append(dst, ' '), text...)
	}
	return append(dst, '\n')
}

// AppendAck appends the receipt of a PUB or PUBN; tag may be "".
func AppendAck(dst []byte, r *Receipt, tag string) []byte {
	dst = appendStream(append(dst, "+ACK "...), r.Topic, r.Partition, r.Partitioned)
	dst = appendOffset(append(dst, ' '), r.Offset)
	dst = appendStamp(dst, r.TS, r.Eps, r.Lamport)
	dst = strconv.AppendUint(append(dst, " term="...), r.Term, 10)
	dst = strconv.AppendUint(append(dst, " idx="...), r.Index, 10)
	dst = strconv.AppendInt(append(dst, " sync="...), int64(r.Synced), 10)
	dst = strconv.AppendInt(append(dst, '/'), int64(r.Replicas), 10)
	dst = append(dst, " dup="...)
	dst = append(dst, "01"[b2i(r.Duplicate)])
	dst = appendTag(dst, tag)
	return append(dst, '\n')
}

// AppendSub appends the answer to SUB.
func AppendSub(dst []byte, sid string) []byte {
	return append(append(append(dst, "+SUB "...), sid...), '\n')
}

// AppendOK appends the answer to UNSUB.
func AppendOK(dst []byte) []byte { return append(dst, "+OK\n"...) }

// AppendBye appends the answer to QUIT.
func AppendBye(dst []byte) []byte { return append(dst, "+BYE\n"...) }

// AppendMessage appends a MSG line, the payload and the LF behind it. In an
// answer to HISTORY sid is "-".
func AppendMessage(dst []byte, sid string, m *Message) []byte {
	dst = appendStream(append(dst, "MSG "...), m.Topic, m.Partition, m.Partitioned)
	dst = append(append(dst, ' '), sid...)
	dst = appendOffset(append(dst, ' '), m.Offset)
	dst = appendStamp(dst, m.TS, m.Eps, m.Lamport)
	if m.Key != nil {
		dst = appendEscaped(append(dst, " key="...), m.Key)
	}
	if m.ID != nil {
		dst = appendEscaped(append(dst, " id="...), m.ID)
	}
	for i := range m.Headers {
		dst = appendEscapedName(append(dst, " hdr."...), m.Headers[i].Name)
		dst = appendEscaped(append(dst, '='), m.Headers[i].Value)
	}
	if m.Late {
		dst = append(dst, " late=1"...)
	}
	dst = strconv.AppendInt(append(dst, ' '), int64(len(m.Value)), 10)
	dst = append(dst, '\n')
	dst = append(dst, m.Value...)
	return append(dst, '\n')
}

// AppendEnd appends the end of a HISTORY.
func AppendEnd(dst []byte, e *End) []byte {
	dst = appendStream(append(dst, "+END "...), e.Topic, e.Partition, e.Partitioned)
	dst = strconv.AppendUint(append(dst, " n="...), e.N, 10)
	dst = appendOffset(append(dst, " next="...), e.Next)
	dst = strconv.AppendUint(append(dst, " as_of="...), e.AsOf, 10)
	return append(dst, '\n')
}

// AppendEndCount appends the end of a TOPICS, INFO or TIME after n lines.
func AppendEndCount(dst []byte, n int) []byte {
	dst = strconv.AppendInt(append(dst, "+END n="...), int64(n), 10)
	return append(dst, '\n')
}

// AppendTopicLine appends a TOPIC line.
func AppendTopicLine(dst []byte, t *TopicLine) []byte {
	dst = appendStream(append(dst, "TOPIC "...), t.Topic, t.Partition, t.Partitions > 1)
	dst = strconv.AppendInt(append(dst, " partitions="...), int64(t.Partitions), 10)
	dst = strconv.AppendUint(append(dst, " first="...), t.First, 10)
	dst = strconv.AppendUint(append(dst, " next="...), t.Next, 10)
	dst = append(dst, " leader="...)
	if t.Leader == "" {
		dst = append(dst, '-')
	} else {
		dst = appendEscaped(dst, t.Leader)
	}
	dst = strconv.AppendInt(append(dst, " shard="...), int64(t.Shard), 10)
	return append(dst, '\n')
}

// AppendNodeLine appends a NODE line.
func AppendNodeLine(dst []byte, n *NodeLine) []byte {
	dst = appendEscaped(append(dst, "NODE "...), n.Node)
	for _, f := range n.Fields {
		dst = appendEscapedName(append(dst, ' '), []byte(f.Name))
		dst = appendEscaped(append(dst, '='), f.Value)
	}
	return append(dst, '\n')
}

// AppendClockLine appends a CLOCK line.
func AppendClockLine(dst []byte, c *ClockLine) []byte {
	dst = appendEscaped(append(dst, "CLOCK "...), c.Node)
	dst = append(dst, " offset="...)
	if c.Known {
		dst = strconv.AppendInt(dst, c.Offset, 10)
	} else {
		dst = append(dst, '-')
	}
	dst = strconv.AppendInt(append(dst, " eps="...), c.Eps, 10)
	dst = append(dst, " drift="...)
	if c.DriftKnown {
		dst = strconv.AppendFloat(dst, c.Drift, 'f', 1, 64)
	} else {
		dst = append(dst, '-')
	}
	dst = appendEscaped(append(dst, " state="...), c.State)
	dst = strconv.AppendUint(append(dst, " lam="...), c.Lamport, 10)
	if c.Test {
		dst = append(dst, " test=1"...)
	}
	return append(dst, '\n')
}

// AppendError appends an -ERR line. Control bytes in the text become spaces,
// and a last word that looks like a tag is quoted.
func AppendError(dst []byte, e *Error) []byte {
	dst = append(append(dst, "-ERR "...), e.Code...)
	text := strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, e.Text))
	if text != "" {
		head, last := "", text
		if i := strings.LastIndexByte(text, ' '); i >= 0 {
			head, last = text[:i+1], text[i+1:]
		}
		if strings.HasPrefix(last, "tag=") {
			last = `"` + last + `"`
		}
		dst = append(append(append(dst, ' '), head...), last...)
	}
	dst = appendTag(dst, e.Tag)
	return append(dst, '\n')
}

func appendStream(dst []byte, topic string, partition int, partitioned bool) []byte {
	dst = append(dst, topic...)
	if partitioned {
		dst = strconv.AppendInt(append(dst, '/'), int64(partition), 10)
	}
	return dst
}

func appendOffset(dst []byte, offset uint64) []byte {
	if offset == NoOffset {
		return append(dst, '-')
	}
	return strconv.AppendUint(dst, offset, 10)
}

func appendStamp(dst []byte, ts uint64, eps int64, lamport uint64) []byte {
	dst = strconv.AppendUint(append(dst, " ts="...), ts, 10)
	dst = strconv.AppendInt(append(dst, " eps="...), eps, 10)
	return strconv.AppendUint(append(dst, " lam="...), lamport, 10)
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Clone returns a copy of m that shares no bytes with it.
func (m *Message) Clone() Message {
	c := *m
	c.Key, c.ID, c.Value = bytes.Clone(m.Key), bytes.Clone(m.ID), bytes.Clone(m.Value)
	if m.Headers != nil {
		c.Headers = make([]Header, len(m.Headers))
		for i, h := range m.Headers {
			c.Headers[i] = Header{bytes.Clone(h.Name), bytes.Clone(h.Value)}
		}
	}
	return c
}
