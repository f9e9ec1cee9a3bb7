package topics

import "errors"

// This file is the promised API until the real files stand.

type Broker struct{ machine }

func NewBroker() *Broker { panic("") }

// Apply applies one committed entry. The outcomes are valid until the next Apply.
func (b *Broker) Apply(e Entry) ([]Outcome, error) { panic("") }

// Generation returns the generation of the topic's settings in this shard.
func (b *Broker) Generation(uid uint64) (uint64, bool) { panic("") }

// Offsets returns the first and the next offset; 0, 0 for one never published to.
func (b *Broker) Offsets(s Stream) (first, next uint64) { panic("") }

// Seal hands over the items of a sealed segment, sorted by stream and base.
func (b *Broker) Seal(segment uint64) []StreamRecord { panic("") }

// Unload forgets the items of every segment up to this one: their index files stand.
func (b *Broker) Unload(segment uint64) { panic("") }

type Catalogue struct{ machine }

func NewCatalogue() *Catalogue { panic("") }

// Apply applies one committed entry. The outcomes are valid until the next Apply.
func (c *Catalogue) Apply(e Entry) ([]Outcome, error) { panic("") }

func (c *Catalogue) Cluster() (ClusterInfo, bool)     { panic("") }
func (c *Catalogue) Nodes() []Node                    { panic("") }
func (c *Catalogue) Topic(uid uint64) (Topic, bool)   { panic("") }
func (c *Catalogue) Lookup(name string) (Topic, bool) { panic("") }
func (c *Catalogue) Topics() []Topic                  { panic("") } // sorted by name
func (c *Catalogue) Shard(s Stream) uint32            { panic("") } // (uid + p) % shards
func (c *Catalogue) NextUID() uint64                  { panic("") }
func (c *Catalogue) Version() uint64                  { panic("") }

// DeletedSince appends the uids deleted after index; false: no longer known, compare all.
func (c *Catalogue) DeletedSince(index uint64, uids []uint64) ([]uint64, bool) { panic("") }

func ValidName(name string) bool { panic("") }

// CatalogueView is what a shard's Leader reads of the node's catalogue copy; must be safe to call
// under the shard's lock (lock order: shard, then catalogue).
type CatalogueView interface {
	Version() uint64
	NextUID() uint64
	Topic(uid uint64) (Topic, bool)
	DeletedSince(index uint64, uids []uint64) ([]uint64, bool)
}

type LeaderOptions struct {
	Machine Machine // the group's *Broker or *Catalogue
	// View is the node's catalogue copy; needed when Machine is a *Broker.
	View CatalogueView
	// Reference is the cluster's reference time: microseconds and half-width, -1 unsynchronised.
	Reference func() (us uint64, eps int64)
	// DedupIDs is the cluster's dedupIds (default 1,000,000); the leader writes it into the log when it differs.
	DedupIDs uint64
	// EntryBytes (1 MiB) softly bounds a joined entry; QueueBytes (64 MiB) the queue.
	EntryBytes, QueueBytes int
}

type Leader struct{}

func NewLeader(o LeaderOptions) (*Leader, error) { panic("") }

// Reset: this node leads the group at term, or leads no more (term 0). The queue is emptied.
func (l *Leader) Reset(term uint64) { panic("") }

// Receive takes requests with consecutive numbers. answers are for those applied already.
func (l *Leader) Receive(from Origin, requests []Request) (answers []Result, nack *Nack) { panic("") }

// CatalogueApplied: the node's catalogue copy has applied up to index.
func (l *Leader) CatalogueApplied(index uint64) { panic("") }

// Tick proposes a Clock when one is due. Call it a few times a second while leading.
func (l *Leader) Tick() { panic("") }

// Pending: NextEntry would return something (wake the Host).
func (l *Leader) Pending() bool { panic("") }

// NextEntry forms the next entry: raftnode.Proposer.
func (l *Leader) NextEntry(term uint64) []byte { panic("") }

type ForwarderOptions struct {
	Origin Origin
	// Window (4096) and WindowBytes (16 MiB) bound what is unanswered, QueueBytes (64 MiB) what waits.
	Window                  int
	WindowBytes, QueueBytes int
	// MessageBytes (1 MiB) softly bounds one Outgoing.
	MessageBytes int
	// ResendTicks (10): resend after this many ticks without an answer.
	ResendTicks int
}

type Forwarder struct{}

// ErrQueueFull: certainly not written; the client gets BUSY.
var ErrQueueFull = errors.New("topics: the queue to the leader is full")

// Completion is a request that is answered.
type Completion struct {
	Token  uint64
	Result Result
}

func NewForwarder(o ForwarderOptions) *Forwarder { panic("") }

// Submit queues r; ticket is for Withdraw, token comes back in the Completion.
func (f *Forwarder) Submit(r Request, token uint64) (ticket uint64, err error) { panic("") }

// Withdraw takes back a request that was never sent (true: certainly not written). False: it has a
// number and will be completed some day: the outcome is unknown.
func (f *Forwarder) Withdraw(ticket uint64) bool { panic("") }

// SetLeader: leader 0 = none. A change resends everything unanswered.
func (f *Forwarder) SetLeader(leader, term uint64) { panic("") }

// Broken: the connection to the leader broke; everything unanswered is sent again.
func (f *Forwarder) Broken() { panic("") }

// Outgoing returns the next requests to send; call until it returns none.
func (f *Forwarder) Outgoing() (to uint64, requests []Request) { panic("") }

// Results completes requests; the completions are valid until the next call.
func (f *Forwarder) Results(origin Origin, results []Result) []Completion { panic("") }

// Nack rewinds to what the leader expects.
func (f *Forwarder) Nack(origin Origin, n Nack) { panic("") }

// Tick counts silence.
func (f *Forwarder) Tick() { panic("") }

// Pending: unanswered and waiting requests.
func (f *Forwarder) Pending() int { panic("") }

// HotLog is the node's log for readers, filled by member with the WAL.
type HotLog interface {
	ReadAt(p []byte, pos Pos) error
	// Scan: the stored batches in index files from the one that holds offset from (or the first above), ascending, up to max.
	Scan(s Stream, from uint64, max int) ([]Located, error)
	// ScanBack: the stored batches with base < before, newest first, up to max.
	ScanBack(s Stream, before uint64, max int) ([]Located, error)
	// FindTime: the first batch with TS >= ts.
	FindTime(s Stream, ts uint64) (Located, bool, error)
}

// Reader reads the batches of one shard. Safe for concurrent use.
type Reader struct{}

// NewReader: mu is the shard's lock around b.
func NewReader(mu interface {
	Lock()
	Unlock()
}, b *Broker, log HotLog) *Reader { panic("") }

// StoredBatch is one batch as it lies in the log, with what its receipt said.
type StoredBatch struct {
	Located
	Stored
}

// Read appends batches from the one that holds offset from, until maxBytes or the end (at least one).
func (r *Reader) Read(s Stream, from uint64, maxBytes int) ([]StoredBatch, error) { panic("") }

// ReadBack: batches with base < before, newest first.
func (r *Reader) ReadBack(s Stream, before uint64, maxBytes int) ([]StoredBatch, error) { panic("") }

// At returns the batch that holds offset: the first receipt of a duplicate.
func (r *Reader) At(s Stream, offset uint64) (StoredBatch, error) { panic("") }

// OffsetAt returns the base offset of the first batch with ts or later, or the next offset.
func (r *Reader) OffsetAt(s Stream, ts uint64) (uint64, error) { panic("") }

// The bodies of transport messages; decoded bodies alias the input.
func EncodeRequests(b []byte, from Origin, requests []Request) []byte      { panic("") }
func DecodeRequests(b []byte) (from Origin, requests []Request, err error) { panic("") }
func EncodeResults(b []byte, to Origin, results []Result) []byte           { panic("") }
func DecodeResults(b []byte) (to Origin, results []Result, err error)      { panic("") }
func EncodeNack(b []byte, to Origin, n Nack) []byte                        { panic("") }
func DecodeNack(b []byte) (to Origin, n Nack, err error)                   { panic("") }
