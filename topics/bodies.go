package topics

import (
	"encoding/binary"
	"math"
	"slices"
	"strings"
)

// configure is the body of a Configure command: all a shard knows of a topic.
type configure struct {
	UID           uint64
	Partitions    uint32
	Generation    uint64
	DedupWindowUS uint64
}

func (c configure) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, c.UID)
	b = binary.LittleEndian.AppendUint32(b, c.Partitions)
	b = binary.LittleEndian.AppendUint64(b, c.Generation)
	return binary.LittleEndian.AppendUint64(b, c.DedupWindowUS)
}

func decodeConfigure(b []byte) (configure, error) {
	r := reader{b: b}
	c := configure{UID: r.u64(), Partitions: r.u32(), Generation: r.u64(), DedupWindowUS: r.u64()}
	if c.Partitions > MaxPartitions {
		r.fail()
	}
	return c, r.end("configure")
}

// drop is the body of a Drop command.
func appendDrop(b []byte, uid uint64) []byte { return binary.LittleEndian.AppendUint64(b, uid) }

func decodeDrop(b []byte) (uint64, error) {
	r := reader{b: b}
	uid := r.u64()
	return uid, r.end("drop")
}

// clock is the body of a Clock command: the leader's chain hash at an earlier
// index, for the replicas to compare with theirs.
type clock struct {
	Index uint64
	Chain Chain
}

func (c clock) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, c.Index)
	return append(b, c.Chain[:]...)
}

func decodeClock(b []byte) (c clock, err error) {
	r := reader{b: b}
	c.Index = r.u64()
	copy(c.Chain[:], r.take(len(c.Chain)))
	return c, r.end("clock")
}

// refused is the body of a Refused command: the empty command that takes the
// number of a request which the leader did not let through.
type refused struct {
	Code      Code
	UID       uint64
	Partition uint32
}

func (c refused) append(b []byte) []byte {
	b = append(b, byte(c.Code))
	b = binary.LittleEndian.AppendUint64(b, c.UID)
	return binary.LittleEndian.AppendUint32(b, c.Partition)
}

func decodeRefused(b []byte) (refused, error) {
	r := reader{b: b}
	c := refused{Code: Code(r.u8()), UID: r.u64(), Partition: r.u32()}
	if c.Code == OK {
		r.fail()
	}
	return c, r.end("refusal")
}

// limits is the body of a Limits command.
func appendLimits(b []byte, dedupIDs uint64) []byte {
	return binary.LittleEndian.AppendUint64(b, dedupIDs)
}

func decodeLimits(b []byte) (uint64, error) {
	r := reader{b: b}
	n := r.u64()
	if n > MaxDedupIDs {
		r.fail()
	}
	return n, r.end("limits")
}

// Form is the catalogue's first command: what the cluster is, for ever.
type Form struct {
	ClusterInfo
	Nodes []Node
}

// NewForm makes the request that forms the cluster. Only the first one in the
// log has an effect; the answer to a later one is Unchanged.
func NewForm(f Form) Request {
	var b []byte
	b = append(b, f.ID[:]...)
	b = binary.LittleEndian.AppendUint32(b, f.Shards)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(f.Nodes)))
	for _, n := range f.Nodes {
		b = appendNode(b, n)
	}
	return Request{Kind: KindForm, Body: b}
}

func appendNode(b []byte, n Node) []byte {
	b = appendString(b, n.Name)
	b = binary.LittleEndian.AppendUint64(b, n.RaftID)
	return append(b, n.UID[:]...)
}

func (r *reader) node() (n Node) {
	n.Name = r.str(MaxNodeNameBytes)
	n.RaftID = r.u64()
	copy(n.UID[:], r.take(16))
	return n
}

func decodeForm(b []byte) (f Form, err error) {
	r := reader{b: b}
	copy(f.ID[:], r.take(16))
	f.Shards = r.u32()
	n := r.u32()
	if f.Shards == 0 || f.Shards > MaxShards || n > MaxNodes {
		r.fail()
	}
	for i := uint32(0); i < n && r.err == nil; i++ {
		f.Nodes = append(f.Nodes, r.node())
	}
	return f, r.end("form")
}

// Enter gives a name that was absent at the forming its uid.
type Enter struct {
	Name string
	UID  [16]byte
}

// NewEnter makes the request that enters a node's uid. It is refused with
// Conflict when the name is unknown or has another uid already.
func NewEnter(e Enter) Request {
	b := appendString(nil, e.Name)
	return Request{Kind: KindEnter, Body: append(b, e.UID[:]...)}
}

func decodeEnter(b []byte) (e Enter, err error) {
	r := reader{b: b}
	e.Name = r.str(MaxNodeNameBytes)
	copy(e.UID[:], r.take(16))
	return e, r.end("enter")
}

// NewSecret makes the request that gives the cluster its secret, which the caller
// has drawn. Only the first one in the log has an effect; the answer to a later one
// is Unchanged. Every node must read entries of version 2.
func NewSecret(s Secret) Request { return Request{Kind: KindSecret, Body: s[:]} }

func decodeSecret(b []byte) (s Secret, err error) {
	r := reader{b: b}
	copy(s[:], r.take(len(s)))
	if s == (Secret{}) {
		r.fail()
	}
	return s, r.end("secret")
}

// looseNameBytes is what a decoder takes as a topic's name, so that one that is
// a little too long is answered with BadTopic.
const looseNameBytes = 4096

// TopicChange is the body of Create and Put.
type TopicChange struct {
	Name string
	Spec Spec
	// Annotations replace the topic's if SetAnnotations; otherwise Put keeps
	// what is there.
	SetAnnotations bool
	Annotations    []Annotation
}

// NewCreate makes the request that creates a topic; the answer for one that
// exists is Unchanged with its uid, so a first publish may create blindly.
func NewCreate(c TopicChange) Request { return Request{Kind: KindCreate, Body: c.append(nil)} }

// NewPut makes the request that creates a topic or changes it to this spec. The
// generation rises only when the spec changes.
func NewPut(c TopicChange) Request { return Request{Kind: KindPut, Body: c.append(nil)} }

func (c TopicChange) append(b []byte) []byte {
	b = appendString(b, c.Name)
	b = c.Spec.append(b)
	if !c.SetAnnotations {
		return append(b, 0)
	}
	return appendAnnotations(append(b, 1), c.Annotations)
}

func appendAnnotations(b []byte, as []Annotation) []byte {
	as = slices.Clone(as[:min(len(as), math.MaxUint16)])
	slices.SortFunc(as, func(x, y Annotation) int { return strings.Compare(x.Key, y.Key) })
	b = binary.LittleEndian.AppendUint16(b, uint16(len(as)))
	for _, a := range as {
		b = appendString(b, a.Key)
		b = appendString(b, a.Value)
	}
	return b
}

func (r *reader) annotations() (as []Annotation) {
	n := r.u16()
	if n > MaxAnnotations {
		r.fail()
	}
	for i := uint16(0); i < n && r.err == nil; i++ {
		a := Annotation{Key: r.str(MaxAnnotationBytes), Value: r.str(MaxAnnotationBytes)}
		if i > 0 && as[i-1].Key >= a.Key {
			r.fail()
		}
		as = append(as, a)
	}
	return as
}

func (s Spec) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, s.Partitions)
	b = binary.LittleEndian.AppendUint64(b, s.RetentionAgeUS)
	b = binary.LittleEndian.AppendUint64(b, s.RetentionBytes)
	b = binary.LittleEndian.AppendUint64(b, s.RetentionMessages)
	b = binary.LittleEndian.AppendUint64(b, s.DedupWindowUS)
	b = binary.LittleEndian.AppendUint32(b, s.MaxMessageBytes)
	return append(b, boolByte(s.DeleteData))
}

func (r *reader) spec() Spec {
	s := Spec{
		Partitions: r.u32(), RetentionAgeUS: r.u64(), RetentionBytes: r.u64(), RetentionMessages: r.u64(),
		DedupWindowUS: r.u64(), MaxMessageBytes: r.u32(), DeleteData: r.bool(),
	}
	if s.Partitions == 0 || s.Partitions > MaxPartitions {
		r.fail()
	}
	return s
}

func decodeTopicChange(b []byte) (c TopicChange, err error) {
	r := reader{b: b}
	c.Name = r.str(looseNameBytes)
	c.Spec = r.spec()
	if c.SetAnnotations = r.bool(); c.SetAnnotations {
		c.Annotations = r.annotations()
	}
	return c, r.end("topic")
}

// Delete is the body of a Delete command.
type Delete struct {
	Name string
	// UID, if not 0, must be the topic's: a topic of the same name that was
	// made since stays.
	UID uint64
}

// NewDelete makes the request that deletes a topic.
func NewDelete(d Delete) Request {
	b := appendString(nil, d.Name)
	return Request{Kind: KindDelete, Body: binary.LittleEndian.AppendUint64(b, d.UID)}
}

func decodeDelete(b []byte) (Delete, error) {
	r := reader{b: b}
	d := Delete{Name: r.str(looseNameBytes), UID: r.u64()}
	return d, r.end("delete")
}

func boolByte(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// appendString appends s behind its length in 16 bits. What is longer is cut: it
// is far beyond every limit, so the decoder refuses it.
func appendString(b []byte, s string) []byte {
	s = s[:min(len(s), math.MaxUint16)]
	b = binary.LittleEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

// reader takes fields off a slice. After the first fault every field is zero.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail() {
	if r.err == nil {
		r.err = ErrMalformed
	}
	r.b = nil
}

func (r *reader) take(n int) []byte {
	if r.err != nil || len(r.b) < n {
		r.fail()
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) u8() uint8 {
	if v := r.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (r *reader) bool() bool {
	v := r.u8()
	if v > 1 {
		r.fail()
	}
	return v == 1
}

func (r *reader) u16() uint16 {
	if v := r.take(2); v != nil {
		return binary.LittleEndian.Uint16(v)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if v := r.take(4); v != nil {
		return binary.LittleEndian.Uint32(v)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if v := r.take(8); v != nil {
		return binary.LittleEndian.Uint64(v)
	}
	return 0
}

func (r *reader) str(limit int) string {
	n := int(r.u16())
	if n > limit {
		r.fail()
		return ""
	}
	return string(r.take(n))
}

// end reports the first fault, or bytes that are left over.
func (r *reader) end(what string) error {
	if r.err != nil {
		return malformed("%s", what)
	}
	if len(r.b) != 0 {
		return malformed("%s with %d bytes too many", what, len(r.b))
	}
	return nil
}
