package topics

import (
	"slices"
	"strings"
)

// Catalogue is the state machine of the catalogue group: the cluster, its nodes
// and its topics. A topic's uid comes from a counter and is never used again, so
// a topic that was deleted and made anew is another one.
//
// It is not safe for concurrent use; the slices in what it returns are not
// changed later.
type Catalogue struct {
	machine
	info    ClusterInfo
	formed  bool
	secret  Secret // zero: the log has none
	nodes   []Node // in the order of the file
	nextUID uint64
	byName  map[string]uint32 // -> its place in records
	byUID   map[uint64]uint32
	records []topicRecord
	free    []uint32
	sorted  []string // names in order; nil when it must be made anew
	deleted []deletion
	// forgotten: deletions up to this index are no longer in deleted.
	forgotten uint64
	// changed lists the topics changed since the last checkpoint.
	changed []uint64
}

// topicRecord is one topic as it is kept: what most topics have in common is
// shared.
type topicRecord struct {
	uid, generation uint64
	created         uint64
	name            string
	spec            *Spec
	annotations     []Annotation
}

type deletion struct{ index, uid uint64 }

// keptDeletions bounds the feed of deletions.
const keptDeletions = 1 << 16

// PublishAnnotation marks a topic that its first publish made.
var PublishAnnotation = Annotation{Key: "wiber.dev/created-by", Value: "publish"}

var publishAnnotations = []Annotation{PublishAnnotation}

// NewCatalogue returns the catalogue of an empty log.
func NewCatalogue() *Catalogue {
	return &Catalogue{nextUID: 1, byName: map[string]uint32{}, byUID: map[uint64]uint32{}}
}

// ValidName reports whether name can be a topic's name.
func ValidName(name string) bool {
	if name == "" || len(name) > MaxNameBytes {
		return false
	}
	for i := range len(name) {
		switch c := name[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

// Apply applies one committed entry. The outcomes are valid until the next
// Apply. An error means that the log cannot be applied: the process must end.
func (c *Catalogue) Apply(e Entry) ([]Outcome, error) { return c.apply(&e, c) }

func (c *Catalogue) execute(e *Entry, cmd *Command, r *Result) error {
	switch cmd.Kind {
	case KindForm:
		c.form(cmd, r)
	case KindEnter:
		c.enter(cmd, r)
	case KindCreate, KindPut:
		c.put(cmd, r)
	case KindDelete:
		c.delete(e, cmd, r)
	case KindSecret:
		c.keepSecret(cmd, r)
	default:
		r.Code = Malformed
	}
	return nil
}

// keepSecret stores what the proposer has drawn; the first one in the log wins.
func (c *Catalogue) keepSecret(cmd *Command, r *Result) {
	s, err := decodeSecret(cmd.Body)
	switch {
	case err != nil || cmd.version < KindSecret.version():
		r.Code = Malformed
	case !c.formed:
		r.Code = NotFormed
	case c.secret != Secret{}:
		r.Effect = Unchanged
	default:
		c.secret = s
		r.Effect = Created
	}
}

func (c *Catalogue) form(cmd *Command, r *Result) {
	f, err := decodeForm(cmd.Body)
	switch {
	case err != nil:
		r.Code = Malformed
	case c.formed:
		r.Effect = Unchanged
	default:
		c.info, c.formed, c.nodes = f.ClusterInfo, true, f.Nodes
		r.Effect, r.Count = Created, uint32(len(f.Nodes))
	}
}

func (c *Catalogue) enter(cmd *Command, r *Result) {
	n, err := decodeEnter(cmd.Body)
	if err != nil || n.UID == ([16]byte{}) {
		r.Code = Malformed
		return
	}
	i := slices.IndexFunc(c.nodes, func(have Node) bool { return have.Name == n.Name })
	switch {
	case !c.formed:
		r.Code = NotFormed
	case i < 0:
		r.Code = Conflict
	case c.nodes[i].UID == n.UID:
		r.Base = c.nodes[i].RaftID
	case c.nodes[i].UID != [16]byte{}:
		r.Code = Conflict
	default:
		c.nodes = slices.Clone(c.nodes) // readers may hold the old one
		c.nodes[i].UID = n.UID
		r.Effect, r.Base = Configured, c.nodes[i].RaftID
	}
}

// put creates a topic, or with KindPut changes it.
func (c *Catalogue) put(cmd *Command, r *Result) {
	t, err := decodeTopicChange(cmd.Body)
	switch {
	case err != nil:
		r.Code = Malformed
		return
	case !c.formed:
		r.Code = NotFormed
		return
	case !ValidName(t.Name):
		r.Code = BadTopic
		return
	}
	i, ok := c.byName[t.Name]
	switch {
	case !ok:
		c.create(t, cmd.Stamp.TS, r)
		return
	case cmd.Kind == KindPut:
		c.change(&c.records[i], t, r)
	}
	r.UID, r.Base, r.Count = c.records[i].uid, c.records[i].generation, c.records[i].spec.Partitions
}

func (c *Catalogue) create(t TopicChange, ts uint64, r *Result) {
	rec := topicRecord{uid: c.nextUID, generation: 1, created: ts, name: t.Name, spec: sharedSpec(t.Spec), annotations: sharedAnnotations(t.Annotations)}
	c.nextUID++
	c.insert(rec)
	c.changed = append(c.changed, rec.uid)
	r.Effect, r.UID, r.Base, r.Count = Created, rec.uid, rec.generation, rec.spec.Partitions
}

func (c *Catalogue) insert(rec topicRecord) {
	var i uint32
	if n := len(c.free); n > 0 {
		i, c.free = c.free[n-1], c.free[:n-1]
		c.records[i] = rec
	} else {
		i = uint32(len(c.records))
		c.records = append(c.records, rec)
	}
	c.byName[rec.name], c.byUID[rec.uid] = i, i
	c.sorted = nil
}

func (c *Catalogue) change(rec *topicRecord, t TopicChange, r *Result) {
	if t.Spec.Partitions < rec.spec.Partitions {
		r.Code = Shrink
		return
	}
	if t.Spec != *rec.spec {
		rec.spec = sharedSpec(t.Spec)
		rec.generation++
		r.Effect = Configured
	}
	if t.SetAnnotations && !slices.Equal(t.Annotations, rec.annotations) {
		rec.annotations = sharedAnnotations(t.Annotations)
		r.Effect = Configured
	}
	if r.Effect == Configured {
		c.changed = append(c.changed, rec.uid)
	}
}

func (c *Catalogue) delete(e *Entry, cmd *Command, r *Result) {
	d, err := decodeDelete(cmd.Body)
	if err != nil {
		r.Code = Malformed
		return
	}
	i, ok := c.byName[d.Name]
	if !ok || d.UID != 0 && d.UID != c.records[i].uid {
		r.Code = NoTopic
		return
	}
	uid := c.records[i].uid
	delete(c.byName, d.Name)
	delete(c.byUID, uid)
	c.records[i] = topicRecord{}
	c.free = append(c.free, i)
	c.sorted = nil
	c.changed = append(c.changed, uid)
	if len(c.deleted) >= keptDeletions {
		half := len(c.deleted) / 2
		c.forgotten = c.deleted[half-1].index
		c.deleted = append(c.deleted[:0], c.deleted[half:]...)
	}
	c.deleted = append(c.deleted, deletion{e.Index, uid})
	r.Effect, r.UID = Deleted, uid
}

func sharedSpec(s Spec) *Spec {
	if s == DefaultSpec {
		return &DefaultSpec
	}
	return &s
}

func sharedAnnotations(as []Annotation) []Annotation {
	if len(as) == 1 && as[0] == PublishAnnotation {
		return publishAnnotations
	}
	return as
}

func (rec *topicRecord) topic() Topic {
	return Topic{UID: rec.uid, Name: rec.name, Generation: rec.generation, CreatedTS: rec.created, Spec: *rec.spec, Annotations: rec.annotations}
}

// Version returns the applied index.
func (c *Catalogue) Version() uint64 { return c.applied }

// Cluster returns what the first entry fixed; false before it is applied.
func (c *Catalogue) Cluster() (ClusterInfo, bool) { return c.info, c.formed }

// Secret returns the cluster's secret; false if the log has none.
func (c *Catalogue) Secret() (Secret, bool) { return c.secret, c.secret != Secret{} }

// Nodes returns the nodes in the order of the file that formed the cluster.
func (c *Catalogue) Nodes() []Node { return c.nodes }

// NextUID returns the uid that the next topic gets.
func (c *Catalogue) NextUID() uint64 { return c.nextUID }

// Len returns the number of topics.
func (c *Catalogue) Len() int { return len(c.byUID) }

// Topic returns the topic with this uid.
func (c *Catalogue) Topic(uid uint64) (Topic, bool) {
	i, ok := c.byUID[uid]
	if !ok {
		return Topic{}, false
	}
	return c.records[i].topic(), true
}

// Lookup returns the topic with this name.
func (c *Catalogue) Lookup(name string) (Topic, bool) {
	i, ok := c.byName[name]
	if !ok {
		return Topic{}, false
	}
	return c.records[i].topic(), true
}

// Names returns the names of all topics in order. It must not be changed.
func (c *Catalogue) Names() []string {
	if c.sorted == nil && len(c.byName) > 0 {
		c.sorted = make([]string, 0, len(c.byName))
		for name := range c.byName {
			c.sorted = append(c.sorted, name)
		}
		slices.SortFunc(c.sorted, strings.Compare)
	}
	return c.sorted
}

// Topics returns all topics in the order of their names.
func (c *Catalogue) Topics() []Topic {
	ts := make([]Topic, 0, len(c.byName))
	for _, name := range c.Names() {
		ts = append(ts, c.records[c.byName[name]].topic())
	}
	return ts
}

// Shard returns the data shard of a stream. The cluster must be formed.
func (c *Catalogue) Shard(s Stream) uint32 {
	return uint32((s.UID + uint64(s.Partition)) % uint64(c.info.Shards))
}

// DeletedSince appends the uids of the topics that entries above index deleted;
// false if that is no longer known.
func (c *Catalogue) DeletedSince(index uint64, uids []uint64) ([]uint64, bool) {
	if index < c.forgotten {
		return uids, false
	}
	i, _ := slices.BinarySearchFunc(c.deleted, index+1, func(d deletion, at uint64) int {
		if d.index < at {
			return -1
		}
		return 1
	})
	for _, d := range c.deleted[i:] {
		uids = append(uids, d.uid)
	}
	return uids, true
}
