package server

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"sync"
	"time"

	"github.com/wiber/wiber/manifests/v1alpha1"
	"github.com/wiber/wiber/topics/batch"
	"github.com/wiber/wiber/topics/wire"
)

// Fake is a Backend in memory, for tests: one node that is always its own
// majority, where everything happens at once and every number is predictable.
// Stamps count up from FakeStart, one microsecond each; term is 1; the index of
// a group counts its publishes.
type Fake struct {
	// To be set before use, if at all.
	Shards       uint32 // default 4
	NoAutoCreate bool
	Max          int // MaxMessageBytes of the node and of topics made by publishing
	Reasons      []string

	mu       sync.Mutex
	now      uint64
	uids     uint64
	version  uint64
	topics   map[string]*fakeTopic
	changes  []fakeChange
	index    map[uint64]uint64
	parts    map[Stream]*fakePartition
	watchers []*fakeWatch
	held     []*Publish
	heldMore sync.Cond
	hold     bool
	untold   int               // batches whose watchers are still being told
	told     uint64            // the stamp before the first of them
	silent   map[uint64]uint64 // group -> where its safe time stands still
	awaits   []*fakeAwait
	ensure   func(name string) error
	barrier  func(ctx context.Context, level Level, floors []Floor) error
	draining bool
}

// FakeStart is where the stamps of a Fake begin, in microseconds.
const FakeStart = 1_795_341_600_000_000

type fakeTopic struct {
	Topic
	object v1alpha1.Topic
}

type fakeChange struct {
	version uint64
	TopicChange
}

type fakePartition struct {
	batches []Stored
	next    uint64
	first   uint64
	ids     map[string]Receipt
	seqs    map[string][]Receipt
}

type fakeWatch struct {
	stream Stream // zero: topics
	wake   func()
	mu     sync.Mutex // held while wake runs, so that stop waits for it
	off    bool
}

type fakeAwait struct {
	group, ts uint64
	wake      fakeWatch
}

// NewFake returns a Fake without topics.
func NewFake() *Fake {
	f := &Fake{
		Shards: 4, Max: v1alpha1.DefaultMaxMessageBytes, now: FakeStart,
		topics: map[string]*fakeTopic{}, index: map[uint64]uint64{},
		parts: map[Stream]*fakePartition{},
	}
	f.heldMore.L = &f.mu
	return f
}

// Hold makes publishes wait until Release; what comes meanwhile is kept in order.
func (f *Fake) Hold() {
	f.mu.Lock()
	f.hold = true
	f.mu.Unlock()
}

// WaitHeld returns when at least n publishes wait for Release.
func (f *Fake) WaitHeld(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.held) < n {
		f.heldMore.Wait()
	}
}

// Release carries out what was held, in order, and holds nothing more.
func (f *Fake) Release() {
	for {
		f.mu.Lock()
		if len(f.held) == 0 {
			f.hold = false
			f.mu.Unlock()
			return
		}
		p := f.held[0]
		f.held = f.held[1:]
		f.mu.Unlock()
		f.carryOut(p)
	}
}

// ReleaseOne carries out the held publish at place i and goes on holding.
func (f *Fake) ReleaseOne(i int) {
	f.mu.Lock()
	p := f.held[i]
	f.held = slices.Delete(f.held, i, i+1)
	f.mu.Unlock()
	f.carryOut(p)
}

// Silence stops the safe time of a group where it is; Speak lets it go on.
func (f *Fake) Silence(group uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.silent == nil {
		f.silent = map[uint64]uint64{}
	}
	f.silent[group] = f.now
}

// Speak ends Silence.
func (f *Fake) Speak(group uint64) {
	f.mu.Lock()
	delete(f.silent, group)
	f.mu.Unlock()
	f.announce()
}

// Safe implements Backend: what is stamped next is stamped above now.
func (f *Fake) Safe(group uint64) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.safeLocked(group)
}

func (f *Fake) safeLocked(group uint64) uint64 {
	if at, ok := f.silent[group]; ok {
		return at
	}
	if f.untold > 0 {
		return f.told
	}
	return f.now
}

// AwaitSafe implements Backend.
func (f *Fake) AwaitSafe(group, ts uint64, wake func()) (stop func()) {
	a := &fakeAwait{group: group, ts: ts, wake: fakeWatch{wake: wake}}
	f.mu.Lock()
	f.awaits = append(f.awaits, a)
	f.mu.Unlock()
	f.announce()
	return func() {
		f.mu.Lock()
		f.awaits = slices.DeleteFunc(f.awaits, func(x *fakeAwait) bool { return x == a })
		f.mu.Unlock()
		a.wake.mu.Lock()
		a.wake.off = true
		a.wake.mu.Unlock()
	}
}

// announce wakes those whose safe time has come.
func (f *Fake) announce() {
	f.mu.Lock()
	var called []*fakeAwait
	f.awaits = slices.DeleteFunc(f.awaits, func(a *fakeAwait) bool {
		if a.ts <= f.safeLocked(a.group) {
			called = append(called, a)
			return true
		}
		return false
	})
	f.mu.Unlock()
	for _, a := range called {
		a.wake.mu.Lock()
		if !a.wake.off {
			a.wake.wake()
		}
		a.wake.mu.Unlock()
	}
}

// OnEnsure makes EnsureTopic ask check before it makes a topic.
func (f *Fake) OnEnsure(check func(name string) error) {
	f.mu.Lock()
	f.ensure = check
	f.mu.Unlock()
}

// OnBarrier makes Barrier ask check.
func (f *Fake) OnBarrier(check func(ctx context.Context, level Level, floors []Floor) error) {
	f.mu.Lock()
	f.barrier = check
	f.mu.Unlock()
}

// SetTime moves the stamps' clock to us, forwards only.
func (f *Fake) SetTime(us uint64) {
	f.mu.Lock()
	f.now = max(f.now, us)
	f.mu.Unlock()
}

// Trim forgets the messages of a partition below first.
func (f *Fake) Trim(topic string, partition uint32, first uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.parts[Stream{f.topics[topic].UID, partition}]
	p.first = first
	p.batches = slices.DeleteFunc(p.batches, func(b Stored) bool { return b.Base < first })
}

// Damage makes the batch at an offset unreadable.
func (f *Fake) Damage(topic string, partition uint32, offset uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.parts[Stream{f.topics[topic].UID, partition}]
	for i := range p.batches {
		if p.batches[i].Base == offset {
			p.batches[i].Batch = p.batches[i].Batch[:batch.HeaderBytes]
		}
	}
}

// Watches returns how many Watch, WatchTopics and AwaitSafe were not stopped.
func (f *Fake) Watches() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.watchers) + len(f.awaits)
}

// Draining says whether Drain was called.
func (f *Fake) Draining() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.draining
}

// Append stores a batch as it is, as if a client had sent it whole.
func (f *Fake) Append(topic string, partition uint32, b []byte) {
	f.mu.Lock()
	s := Stream{f.topics[topic].UID, partition}
	f.storeLocked(s, b)
	f.mu.Unlock()
	f.tell(s)
}

// AppendAt is Append with a stamp of another clock's: of a shard whose leader's
// clock lags. The shard must be silent, and the stamp above its others.
func (f *Fake) AppendAt(topic string, partition uint32, b []byte, ts uint64) {
	f.mu.Lock()
	s := Stream{f.topics[topic].UID, partition}
	f.storeLocked(s, b)
	p := f.parts[s]
	p.batches[len(p.batches)-1].TS = ts
	f.mu.Unlock()
	f.tell(s)
}

// tell wakes those who watch a stream that was stored to, and then those who wait
// for safe times.
func (f *Fake) tell(s Stream) {
	f.wake(s)
	f.mu.Lock()
	f.untold--
	f.mu.Unlock()
	f.announce()
}

// Info implements Backend.
func (f *Fake) Info() Info {
	return Info{Node: "n1", Cluster: "demo", Version: "v0-fake", MaxMessageBytes: f.Max}
}

// Now implements Backend.
func (f *Fake) Now() (uint64, int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now, 0
}

// Nodes implements Backend.
func (f *Fake) Nodes() []Node {
	n1 := Node{ID: "n1", Role: "leader", Term: 1, LeaderOf: []string{"catalogue"}, Gossip: "alive"}
	for s := range f.Shards {
		n1.LeaderOf = append(n1.LeaderOf, strconv.Itoa(int(s)))
	}
	return []Node{n1, {ID: "n2", Role: "follower", Term: 1, Gossip: "suspect"}}
}

// Clocks implements Backend.
func (f *Fake) Clocks() []wire.ClockLine {
	return []wire.ClockLine{
		{Node: "n1", Known: true, DriftKnown: true, State: "synchronised", Lamport: 7},
		{Node: "n2", Eps: wire.Unsynchronised, State: "unknown"},
	}
}

// NotReady implements Backend.
func (f *Fake) NotReady() []string { return f.Reasons }

var fakeDrift = -0.5

// Counters implements Backend.
func (f *Fake) Counters() Counters {
	return Counters{LogSyncs: 5, LogFrames: 6, LogBytes: 700, LeaderChanges: map[string]uint64{"catalogue": 8}, ForwardsSent: 9, ForwardsWaiting: 10, MessagesDropped: 11,
		PacketsSent: 12, PacketsReceived: 13, PacketsUntaken: 14, PacketsStrange: 15, PacketsNoRoom: 16, ProbesAsked: 17, ProbesAnswered: 18}
}

// Status implements Backend.
func (f *Fake) Status() Status {
	return Status{Node: "n1", Cluster: "demo", Version: "v0-fake", Incarnation: 1, Groups: []GroupStatus{
		{ID: "catalogue", Role: "leader", Leader: "n1", Term: 1, Commit: 3, Applied: 3, Chain: "00",
			Followers: []FollowerStatus{{Node: "n2", Match: 1, Lag: 2, Active: true}}},
	}, Gossip: []GossipState{{Node: "n1", State: "alive"}, {Node: "n2", State: "suspect"}}, Links: []LinkState{{Node: "n2", Up: true}},
		Clock: ClockStatus{State: "synchronised", OffsetMicros: 12, Eps: 40, DriftPPM: &fakeDrift, Lamport: 7, Reference: FakeStart, Ahead: []AheadStatus{},
			Peers: []PeerClock{{Node: "n2", State: "unknown", Eps: wire.Unsynchronised}}}}
}

// Identity implements Backend.
func (f *Fake) Identity() Identity {
	return Identity{Cluster: "demo", Node: "n1", UID: "u1", Incarnation: 1, PID: 7, BootID: "b1", DataDir: "/data/n1"}
}

// Drain implements Backend.
func (f *Fake) Drain(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.draining = true
	return nil
}

// Topic implements Backend.
func (f *Fake) Topic(name string) (*Topic, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t, ok := f.topics[name]
	if !ok {
		return nil, false
	}
	return &t.Topic, true
}

// Topics implements Backend.
func (f *Fake) Topics(after string, limit int) []*Topic {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []*Topic
	for name, t := range f.topics {
		if name > after {
			list = append(list, &t.Topic)
		}
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	return list[:min(limit, len(list))]
}

// TopicChanges implements Backend.
func (f *Fake) TopicChanges(since uint64) ([]TopicChange, uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var changes []TopicChange
	for _, c := range f.changes {
		if c.version > since {
			changes = append(changes, c.TopicChange)
		}
	}
	return changes, f.version
}

// CatalogueVersion implements Backend.
func (f *Fake) CatalogueVersion() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.version
}

// Shard implements Backend.
func (f *Fake) Shard(uid uint64, partition uint32) uint32 {
	return uint32((uid + uint64(partition)) % uint64(f.Shards))
}

// Leader implements Backend.
func (f *Fake) Leader(uint64) string { return "n1" }

// EnsureTopic implements Backend.
func (f *Fake) EnsureTopic(ctx context.Context, name string) (*Topic, error) {
	f.mu.Lock()
	check := f.ensure
	f.mu.Unlock()
	if check != nil {
		if err := check(name); err != nil {
			return nil, err
		}
	}
	if t, ok := f.Topic(name); ok {
		return t, nil
	}
	if f.NoAutoCreate {
		return nil, wire.Errorf(wire.NoTopic, "no topic %s, and publishing makes none here", name)
	}
	object := v1alpha1.NewTopic()
	object.Name = name
	object.Annotations = map[string]string{v1alpha1.AnnotationCreatedBy: v1alpha1.CreatedByPublish}
	object.Spec.MaxMessageBytes = f.Max
	_, _, err := f.PutTopic(ctx, object)
	t, _ := f.Topic(name)
	return t, err
}

// TopicObject implements Backend.
func (f *Fake) TopicObject(name string) (*v1alpha1.Topic, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t, ok := f.topics[name]
	if !ok {
		return nil, false
	}
	return t.object.Clone(), true
}

// PutTopic implements Backend.
func (f *Fake) PutTopic(_ context.Context, want *v1alpha1.Topic) (*v1alpha1.Topic, Effect, error) {
	f.mu.Lock()
	object, effect, err := f.putLocked(want)
	f.mu.Unlock()
	if err == nil {
		f.wake(Stream{})
	}
	return object, effect, err
}

func (f *Fake) putLocked(want *v1alpha1.Topic) (*v1alpha1.Topic, Effect, error) {
	effect := Created
	after := want.Clone()
	old, exists := f.topics[want.Name]
	if exists {
		if after.Annotations == nil {
			after.Annotations = old.object.Annotations
		}
		if old.object.Spec == after.Spec {
			return old.object.Clone(), Unchanged, nil
		}
		if after.Spec.Partitions < old.object.Spec.Partitions {
			return nil, "", &RefusedError{fmt.Sprintf("spec.partitions: %d is less than %d: partitions can only grow", after.Spec.Partitions, old.object.Spec.Partitions)}
		}
		effect = Configured
		after.UID, after.Generation, after.CreationTimestamp = old.object.UID, old.object.Generation+1, old.object.CreationTimestamp
	} else {
		f.uids++
		after.UID, after.Generation = strconv.FormatUint(f.uids, 10), 1
		after.CreationTimestamp = v1alpha1.Time{Time: time.UnixMicro(int64(f.now)).UTC()}
	}
	after.Namespace = "demo"
	after.ResourceVersion = strconv.FormatUint(f.version+1, 10)
	uid, _ := strconv.ParseUint(after.UID, 10, 64)
	t := &fakeTopic{object: *after, Topic: Topic{
		Name: want.Name, UID: uid, Generation: uint64(after.Generation),
		Partitions: uint32(after.Spec.Partitions), MaxMessageBytes: after.Spec.MaxMessageBytes,
	}}
	f.topics[want.Name] = t
	for p := range t.Partitions {
		if s := (Stream{uid, p}); f.parts[s] == nil {
			f.parts[s] = &fakePartition{ids: map[string]Receipt{}, seqs: map[string][]Receipt{}}
		}
	}
	f.version++
	f.changes = append(f.changes, fakeChange{f.version, TopicChange{t.Name, &t.Topic}})
	return after.Clone(), effect, nil
}

// DeleteTopic implements Backend.
func (f *Fake) DeleteTopic(_ context.Context, name string, allowDataLoss bool) error {
	f.mu.Lock()
	t, ok := f.topics[name]
	if !ok {
		f.mu.Unlock()
		return wire.Errorf(wire.NoTopic, "no topic %s", name)
	}
	if t.object.Spec.DeletionPolicy == v1alpha1.DeletionRetain && !allowDataLoss {
		f.mu.Unlock()
		return &RefusedError{"the deletionPolicy of " + name + " is Retain: allow data loss to delete it with its messages"}
	}
	delete(f.topics, name)
	for p := range t.Partitions {
		delete(f.parts, Stream{t.UID, p})
	}
	f.version++
	f.changes = append(f.changes, fakeChange{f.version, TopicChange{Name: name}})
	f.mu.Unlock()
	f.wake(Stream{})
	for p := range t.Partitions {
		f.wake(Stream{t.UID, p})
	}
	return nil
}
