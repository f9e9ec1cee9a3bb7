// Package store keeps what the controller must not forget: the wanted objects
// with their status, a record of every process it started, and the last events.
//
// An object is a Cluster or a Node of manifests/v1alpha1. Every change of one
// gives it a new resourceVersion; a change of its spec also counts its
// generation up. A write that says which version it read is refused when that
// is not the newest.
//
// Invariants, each with a test of the same name:
//
//	UnchangedIsNotWritten:  a Put or a status that changes nothing keeps the
//	                        resourceVersion and tells nobody.
//	StatusKeepsGeneration:  a status never changes the generation, a Put never
//	                        the status.
//	VersionsRise:           no resourceVersion is given twice, in any life of the
//	                        file.
//	FollowersKnowWhatAListSays: who lists and then follows from the list's version
//	                        gets every change once, in order, or is told that
//	                        some are gone.
//	EventsAreBounded:       of each cluster the last EventsPerCluster events are
//	                        kept, and no others.
//
// One bbolt file, docs/format/controller.md, holds all of it.
//
// Not here: topics, which the cluster's catalogue keeps; validation
// (manifests/v1alpha1). Start reading at Store.Put.
package store

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"github.com/wiber/wiber/manifests/v1alpha1"
	"github.com/wiber/wiber/timesvc"
)

// ErrNotFound means that there is no such object.
var ErrNotFound = errors.New("store: not found")

// ErrConflict means that the object was changed, or made anew, since the caller
// read it.
var ErrConflict = errors.New("store: the object was changed meanwhile")

// FormatError says that a file has a format that this program does not know.
type FormatError struct {
	Path   string
	Format uint64
}

// Error names the file, both formats, and the way out.
func (e *FormatError) Error() string {
	return fmt.Sprintf("store: %s has format %d and this program knows only format %d: use the version of wiberctl that made it, or another state folder",
		e.Path, e.Format, format)
}

const format = 1

var (
	metaBucket    = []byte("meta")
	objectsBucket = []byte("objects")
	runsBucket    = []byte("runs")
	formatKey     = []byte("format")
	revisionKey   = []byte("revision")
)

// kinds are those that have versions; all but topics are kept here.
var kinds = []string{v1alpha1.KindCluster, v1alpha1.KindNode, v1alpha1.KindEvent, v1alpha1.KindTopic}

// Key names an object. A Cluster has no namespace.
type Key struct {
	Kind, Namespace, Name string
}

// KeyOf returns the key of an object.
func KeyOf(o v1alpha1.Object) Key {
	m := o.Meta()
	return Key{Kind: o.Type().Kind, Namespace: m.Namespace, Name: m.Name}
}

const sep = "\x00" // in no kind, name or id

func (k Key) bytes() []byte { return []byte(k.Kind + sep + k.Namespace + sep + k.Name) }

// Result says what a Put did.
type Result string

// The results of a Put, in the words of apply.
const (
	Created    Result = "created"
	Configured Result = "configured"
	Unchanged  Result = "unchanged"
)

// Options are what a Store needs of the world.
type Options struct {
	// Clock gives creation and deletion times; the machine's if nil.
	Clock timesvc.Clock
	// NewUID draws the uid of a new object; a random UUID if nil.
	NewUID func() string
}

// Store is the controller's memory. All methods may be called concurrently;
// objects that are passed in or out are shared with nobody.
type Store struct {
	db    *bbolt.DB
	clock timesvc.Clock
	uid   func() string

	// writeMu lets one writer of objects or events in at a time, so that histories
	// and watchers learn of changes in their order. It guards rings.
	writeMu sync.Mutex
	rings   rings

	history map[string]*History // by kind

	mu      sync.Mutex // guards watch and watchID
	watch   map[int]func(Key)
	watchID int
}

// Open opens or makes the file. One process at a time may have it open.
func Open(path string, o Options) (*Store, error) {
	if o.Clock == nil {
		o.Clock = timesvc.NewSystem(timesvc.Skew{})
	}
	if o.NewUID == nil {
		o.NewUID = newUID
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second})
	if errors.Is(err, bbolterrors.ErrTimeout) {
		return nil, fmt.Errorf("store: %s is in use by another process", path)
	}
	if err != nil {
		return nil, fmt.Errorf("store: open %s: %w; if it is damaged, move it away: running nodes are found by their ports", path, err)
	}
	s := &Store{db: db, clock: o.Clock, uid: o.NewUID, watch: map[int]func(Key){}, history: map[string]*History{}}
	err = db.Update(func(tx *bbolt.Tx) error {
		if err := prepare(tx, path); err != nil {
			return err
		}
		s.rings = loadRings(tx)
		for _, kind := range kinds {
			s.history[kind] = NewHistory(lastChange(tx, kind))
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

// prepare makes the buckets of a new file, and checks the format of an old one.
func prepare(tx *bbolt.Tx, path string) error {
	if meta := tx.Bucket(metaBucket); meta != nil {
		v := meta.Get(formatKey)
		if len(v) != 8 {
			return fmt.Errorf("store: %s is no state of a controller; choose another state folder", path)
		}
		if n := binary.BigEndian.Uint64(v); n != format {
			return &FormatError{Path: path, Format: n}
		}
		_, err := tx.CreateBucketIfNotExists(eventsBucket) // younger than the format
		if err == nil {
			_, err = tx.CreateBucketIfNotExists(holdsBucket) // likewise
		}
		return err
	}
	if k, _ := tx.Cursor().First(); k != nil {
		return fmt.Errorf("store: %s is no state of a controller; choose another state folder", path)
	}
	for _, name := range [][]byte{metaBucket, objectsBucket, runsBucket, eventsBucket, holdsBucket} {
		if _, err := tx.CreateBucket(name); err != nil {
			return err
		}
	}
	return tx.Bucket(metaBucket).Put(formatKey, binary.BigEndian.AppendUint64(nil, format))
}

// Close closes the file.
func (s *Store) Close() error { return s.db.Close() }

// Watch calls f with the key of every object that changes from now on, after
// the change can be read. f must not block and must not call the store. The
// returned function ends it.
func (s *Store) Watch(f func(Key)) (cancel func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.watchID
	s.watchID++
	s.watch[id] = f
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watch, id)
	}
}

// Get reads the object of that key into the object; ErrNotFound if there is
// none.
func (s *Store) Get(k Key, into v1alpha1.Object) error {
	return s.db.View(func(tx *bbolt.Tx) error {
		v := tx.Bucket(objectsBucket).Get(k.bytes())
		if v == nil {
			return ErrNotFound
		}
		return decode(k, v, into)
	})
}

// List returns the objects of a kind, sorted by namespace and name, and the
// resourceVersion of the whole. An empty namespace means every one.
func List[T any, P interface {
	*T
	v1alpha1.Object
}](s *Store, kind, namespace string) (items []T, version string, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		version = formatVersion(revision(tx))
		prefix := []byte(kind + sep)
		if namespace != "" {
			prefix = append(prefix, namespace+sep...)
		}
		c := tx.Bucket(objectsBucket).Cursor()
		for k, v := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, v = c.Next() {
			var item T
			if err := decode(Key{Kind: kind, Name: string(k)}, v, P(&item)); err != nil {
				return err
			}
			items = append(items, item)
		}
		return nil
	})
	return items, version, err
}

func decode(k Key, v []byte, into v1alpha1.Object) error {
	if err := json.Unmarshal(v, into); err != nil {
		return fmt.Errorf("store: read the %s %q: %w", k.Kind, k.Name, err)
	}
	return nil
}

// stored is an object whose spec and status are compared but not understood.
type stored struct {
	Metadata v1alpha1.ObjectMeta `json:"metadata"`
	Spec     json.RawMessage     `json:"spec"`
	Status   json.RawMessage     `json:"status,omitempty"`
}

func (v stored) written() bool { return v.Metadata.UID != "" }

// read returns the stored object of a key; none is written() if there is none.
func read(tx *bbolt.Tx, k Key) (v stored, err error) {
	if b := tx.Bucket(objectsBucket).Get(k.bytes()); b != nil {
		err = json.Unmarshal(b, &v)
	}
	return v, err
}

func split(o v1alpha1.Object) (v stored, err error) {
	b, err := json.Marshal(o)
	if err == nil {
		err = json.Unmarshal(b, &v)
	}
	return v, err
}

var errDryRun = errors.New("dry run")

// Put creates the object or replaces what a person may write of it: spec,
// labels and annotations. The status stays as it is stored.
//
// A uid or resourceVersion in the object must be the stored one, else
// ErrConflict. On success the object is what is stored now; with dryRun, what
// would be.
func (s *Store) Put(o v1alpha1.Object, dryRun bool) (Result, error) {
	k := KeyOf(o)
	result := Unchanged
	err := s.update(k, dryRun, func(tx *bbolt.Tx) (*Change, error) {
		old, err := read(tx, k)
		if err != nil {
			return nil, err
		}
		next, err := split(o)
		if err != nil {
			return nil, err
		}
		if err := agrees(next.Metadata, old); err != nil {
			return nil, err
		}
		meta := old.Metadata
		if !old.written() {
			result = Created
			meta = v1alpha1.ObjectMeta{Name: k.Name, Namespace: k.Namespace, UID: s.uid(), CreationTimestamp: v1alpha1.Time{Time: s.clock.Now()}}
		} else if !bytes.Equal(old.Spec, next.Spec) || !maps.Equal(meta.Labels, next.Metadata.Labels) || !maps.Equal(meta.Annotations, next.Metadata.Annotations) {
			result = Configured
		}
		if !bytes.Equal(old.Spec, next.Spec) {
			meta.Generation++
		}
		meta.Labels, meta.Annotations = next.Metadata.Labels, next.Metadata.Annotations
		return s.write(tx, k, o, old, stored{meta, next.Spec, old.Status}, result != Unchanged)
	})
	return result, err
}

// agrees checks what a writer says it has read.
func agrees(m v1alpha1.ObjectMeta, old stored) error {
	if m.UID != "" && m.UID != old.Metadata.UID || m.ResourceVersion != "" && m.ResourceVersion != old.Metadata.ResourceVersion {
		return ErrConflict
	}
	return nil
}

// UpdateStatus replaces the status of the stored object; ErrNotFound if there is
// none, ErrConflict if it is another one (by uid). Nothing else of the object is
// looked at. On success the object is what is stored now.
func (s *Store) UpdateStatus(o v1alpha1.Object) error {
	k := KeyOf(o)
	return s.update(k, false, func(tx *bbolt.Tx) (*Change, error) {
		old, err := s.mine(tx, k, o.Meta().UID)
		if err != nil {
			return nil, err
		}
		next, err := split(o)
		if err != nil {
			return nil, err
		}
		return s.write(tx, k, o, old, stored{old.Metadata, old.Spec, next.Status}, !bytes.Equal(old.Status, next.Status))
	})
}

// MarkDeleted sets the object's deletionTimestamp, if it has none yet, and
// replaces its annotations by those of the argument. The object goes with
// Delete, when what it stood for is gone.
func (s *Store) MarkDeleted(o v1alpha1.Object) error {
	k := KeyOf(o)
	annotations := maps.Clone(o.Meta().Annotations)
	return s.update(k, false, func(tx *bbolt.Tx) (*Change, error) {
		old, err := s.mine(tx, k, o.Meta().UID)
		if err != nil {
			return nil, err
		}
		next := old
		next.Metadata.Annotations = annotations
		if next.Metadata.DeletionTimestamp == nil {
			next.Metadata.DeletionTimestamp = &v1alpha1.Time{Time: s.clock.Now()}
		}
		return s.write(tx, k, o, old, next, old.Metadata.DeletionTimestamp == nil || !maps.Equal(old.Metadata.Annotations, annotations))
	})
}

// Delete removes an object; ErrNotFound if there is none, ErrConflict if it has
// another uid. An empty uid means any.
func (s *Store) Delete(k Key, uid string) error {
	return s.update(k, false, func(tx *bbolt.Tx) (*Change, error) {
		old, err := s.mine(tx, k, uid)
		if err != nil {
			return nil, err
		}
		version, err := bump(tx, k.Kind)
		if err != nil {
			return nil, err
		}
		old.Metadata.ResourceVersion = formatVersion(version)
		last, err := encode(v1alpha1.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: k.Kind}, old)
		if err != nil {
			return nil, err
		}
		return &Change{v1alpha1.WatchDeleted, k, version, last}, tx.Bucket(objectsBucket).Delete(k.bytes())
	})
}

// mine reads the stored object if it has that uid.
func (s *Store) mine(tx *bbolt.Tx, k Key, uid string) (stored, error) {
	old, err := read(tx, k)
	switch {
	case err != nil:
		return old, err
	case !old.written():
		return old, ErrNotFound
	case uid != "" && uid != old.Metadata.UID:
		return old, ErrConflict
	}
	return old, nil
}

// write puts the parts together in the caller's object and, if they changed,
// stores them under a new resourceVersion.
func (s *Store) write(tx *bbolt.Tx, k Key, o v1alpha1.Object, old, next stored, changed bool) (*Change, error) {
	var version uint64
	if changed {
		var err error
		if version, err = bump(tx, k.Kind); err != nil {
			return nil, err
		}
		next.Metadata.ResourceVersion = formatVersion(version)
	}
	whole, err := encode(*o.Type(), next)
	if err != nil {
		return nil, err
	}
	// Unmarshal merges; what the caller had in status and metadata must go.
	reset(o)
	if err := decode(k, whole, o); err != nil {
		return nil, err
	}
	if !changed {
		return nil, nil
	}
	change := &Change{v1alpha1.WatchModified, k, version, whole}
	if !old.written() {
		change.Type = v1alpha1.WatchAdded
	}
	return change, tx.Bucket(objectsBucket).Put(k.bytes(), whole)
}

func encode(t v1alpha1.TypeMeta, v stored) ([]byte, error) {
	return json.Marshal(struct {
		v1alpha1.TypeMeta
		stored
	}{t, v})
}

func reset(o v1alpha1.Object) {
	switch o := o.(type) {
	case *v1alpha1.Cluster:
		*o = v1alpha1.Cluster{}
	case *v1alpha1.Node:
		*o = v1alpha1.Node{}
	default:
		panic(fmt.Sprintf("store: a %T is not kept here", o))
	}
}

// update runs f in a transaction and tells those who follow and watch if it
// changed something.
func (s *Store) update(k Key, dryRun bool, f func(*bbolt.Tx) (*Change, error)) error {
	if strings.Contains(k.Namespace+k.Name, sep) || k.Name == "" || k.Kind == "" {
		return fmt.Errorf("store: %q is no name of an object", k.Name)
	}
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	var change *Change
	err := s.db.Update(func(tx *bbolt.Tx) (err error) {
		if change, err = f(tx); err != nil {
			return err
		}
		if dryRun || change == nil {
			return errDryRun // nothing to keep: roll back and save the fsync
		}
		return nil
	})
	if errors.Is(err, errDryRun) {
		return nil
	}
	if err != nil {
		return err
	}
	s.history[k.Kind].Append(*change)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(s.watch)) {
		s.watch[id](k)
	}
	return nil
}

// NewVersions gives n versions to changes of objects that are kept elsewhere, and
// returns the first of them.
func (s *Store) NewVersions(kind string, n int) (first uint64, err error) {
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	err = s.db.Update(func(tx *bbolt.Tx) error {
		first = revision(tx) + 1
		for range n {
			if _, err := bump(tx, kind); err != nil {
				return err
			}
		}
		return nil
	})
	return first, err
}

// Follow returns a Follower of the changes of a kind after a resourceVersion, as
// a list returned it. ErrExpired: the version is one of another file, or too old;
// that also shows later. The history is in memory: of the changes before the file
// was opened nothing is known but that the last one of the kind is behind the
// version.
func (s *Store) Follow(kind, version string) (*Follower, error) {
	after, err := parseVersion(version)
	if err != nil {
		return nil, err
	}
	var newest uint64
	if err := s.db.View(func(tx *bbolt.Tx) error { newest = revision(tx); return nil }); err != nil {
		return nil, err
	}
	if after > newest {
		return nil, fmt.Errorf("%w: it is %d, and the newest is %d: it is one of an earlier state folder", ErrExpired, after, newest)
	}
	return s.history[kind].Follow(after), nil
}

func revision(tx *bbolt.Tx) uint64 {
	if v := tx.Bucket(metaBucket).Get(revisionKey); len(v) == 8 {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

// lastChange returns the version of the last change of a kind, or the newest of
// all if an older program, which does not note that, has written last.
func lastChange(tx *bbolt.Tx, kind string) uint64 {
	var last, newest uint64
	for _, k := range kinds {
		if v := tx.Bucket(metaBucket).Get(kindKey(k)); len(v) == 8 {
			n := binary.BigEndian.Uint64(v)
			newest = max(newest, n)
			if k == kind {
				last = n
			}
		}
	}
	if newest != revision(tx) {
		return revision(tx)
	}
	return last
}

func kindKey(kind string) []byte { return []byte(string(revisionKey) + sep + kind) }

// bump gives the next version, to a change of an object of that kind.
func bump(tx *bbolt.Tx, kind string) (uint64, error) {
	n := revision(tx) + 1
	v := binary.BigEndian.AppendUint64(nil, n)
	return n, errors.Join(tx.Bucket(metaBucket).Put(revisionKey, v), tx.Bucket(metaBucket).Put(kindKey(kind), v))
}

func formatVersion(n uint64) string { return strconv.FormatUint(n, 10) }

// newUID draws a random UUID, version 4.
func newUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:])
}
