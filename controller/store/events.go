package store

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.etcd.io/bbolt"

	"github.com/wiber/wiber/manifests/v1alpha1"
)

const (
	// EventsPerCluster is how many events of a cluster are kept; the oldest go.
	EventsPerCluster = 1000
	// goneClusters is how many clusters that do not exist any more have their
	// events kept; those of the one that had none for the longest time go.
	goneClusters = 16
)

var eventsBucket = []byte("events")

// rings says how many events of each cluster are stored, and which was the last
// to be written.
type rings map[string]ring

type ring struct {
	count int
	last  uint64
}

// PutEvents writes events, all in one transaction: one that has a name replaces
// what is stored under it, another one gets a name, a uid and its creation time.
// What is missing of the uid of its object is filled in. On success the events
// are what is stored now.
func (s *Store) PutEvents(events []*v1alpha1.Event) error {
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	now := v1alpha1.Time{Time: s.clock.Now()}
	var written []*v1alpha1.Event
	var changes []Change
	var rings rings
	err := s.db.Update(func(tx *bbolt.Tx) error {
		written, changes = written[:0], changes[:0]
		rings = s.rings.clone()
		for _, e := range events {
			e = e.Clone()
			change, err := s.putEvent(tx, e, now, rings)
			if err != nil {
				return fmt.Errorf("store: write an event of cluster %s: %w", e.Namespace, err)
			}
			written, changes = append(written, e), append(changes, change)
		}
		dropped, err := dropEvents(tx, rings)
		changes = append(changes, dropped...)
		return err
	})
	if err != nil {
		return err
	}
	s.rings = rings
	s.history[v1alpha1.KindEvent].Append(changes...)
	for i, e := range written {
		*events[i] = *e
	}
	return nil
}

func (s *Store) putEvent(tx *bbolt.Tx, e *v1alpha1.Event, now v1alpha1.Time, rings rings) (c Change, err error) {
	e.TypeMeta = v1alpha1.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: v1alpha1.KindEvent}
	bucket := tx.Bucket(eventsBucket)
	c.Type = v1alpha1.WatchModified
	if c.Version, err = bump(tx, v1alpha1.KindEvent); err != nil {
		return c, err
	}
	e.ResourceVersion = formatVersion(c.Version)
	k, known := eventKey(e.Namespace, e.Name)
	if !known || bucket.Get(k) == nil {
		c.Type = v1alpha1.WatchAdded
		e.Name = eventName(e.InvolvedObject.Name, c.Version)
		e.UID, e.CreationTimestamp = s.uid(), now
		k, _ = eventKey(e.Namespace, e.Name)
		r := rings[e.Namespace]
		rings[e.Namespace] = ring{r.count + 1, c.Version}
	}
	if o := &e.InvolvedObject; o.UID == "" {
		about, err := read(tx, Key{Kind: o.Kind, Namespace: o.Namespace, Name: o.Name})
		if err != nil {
			return c, err
		}
		o.UID = about.Metadata.UID
	}
	if c.Object, err = json.Marshal(e); err != nil {
		return c, err
	}
	c.Key = KeyOf(e)
	return c, bucket.Put(k, c.Object)
}

// dropEvents removes what is too much. Who follows learns that it is gone.
func dropEvents(tx *bbolt.Tx, rings rings) (dropped []Change, err error) {
	c := tx.Bucket(eventsBucket).Cursor()
	drop := func(cluster string, keep int) error {
		prefix := []byte(cluster + sep)
		for r := rings[cluster]; r.count > keep; {
			k, v := c.Seek(prefix)
			if !bytes.HasPrefix(k, prefix) {
				return fmt.Errorf("store: %d events of cluster %s are missing", r.count-keep, cluster)
			}
			change, err := droppedEvent(tx, v)
			if err == nil {
				err = c.Delete()
			}
			if err != nil {
				return err
			}
			dropped = append(dropped, change)
			r.count--
			rings[cluster] = r
		}
		return nil
	}
	var gone []string
	for _, cluster := range slices.Sorted(maps.Keys(rings)) {
		if err := drop(cluster, EventsPerCluster); err != nil {
			return nil, err
		}
		if tx.Bucket(objectsBucket).Get(Key{Kind: v1alpha1.KindCluster, Name: cluster}.bytes()) == nil {
			gone = append(gone, cluster)
		}
	}
	slices.SortFunc(gone, func(a, b string) int { return cmp.Compare(rings[a].last, rings[b].last) })
	for len(gone) > goneClusters {
		if err := drop(gone[0], 0); err != nil {
			return nil, err
		}
		delete(rings, gone[0])
		gone = gone[1:]
	}
	return dropped, nil
}

func droppedEvent(tx *bbolt.Tx, v []byte) (c Change, err error) {
	var e v1alpha1.Event
	if err := json.Unmarshal(v, &e); err != nil {
		return c, err
	}
	version, err := bump(tx, v1alpha1.KindEvent)
	if err != nil {
		return c, err
	}
	e.ResourceVersion = formatVersion(version)
	last, err := json.Marshal(&e)
	return Change{v1alpha1.WatchDeleted, KeyOf(&e), version, last}, err
}

// loadRings counts the events that are stored.
func loadRings(tx *bbolt.Tx) rings {
	rings := rings{}
	c := tx.Bucket(eventsBucket).Cursor()
	for k, _ := c.First(); k != nil; k, _ = c.Next() {
		if cluster, n, ok := bytes.Cut(k, []byte(sep)); ok && len(n) == 8 {
			rings[string(cluster)] = ring{rings[string(cluster)].count + 1, binary.BigEndian.Uint64(n)}
		}
	}
	return rings
}

func (r rings) clone() rings {
	d := make(rings, len(r))
	for k, v := range r {
		d[k] = v
	}
	return d
}

// Events returns the events of a cluster, or of all if it is empty, in the order
// in which they last happened, and the resourceVersion of the whole.
func (s *Store) Events(cluster string) (items []v1alpha1.Event, version string, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		version = formatVersion(revision(tx))
		var prefix []byte
		if cluster != "" {
			prefix = []byte(cluster + sep)
		}
		c := tx.Bucket(eventsBucket).Cursor()
		for k, v := c.Seek(prefix); bytes.HasPrefix(k, prefix) && k != nil; k, v = c.Next() {
			var e v1alpha1.Event
			if err := json.Unmarshal(v, &e); err != nil {
				return fmt.Errorf("store: read an event of cluster %s: %w", cluster, err)
			}
			items = append(items, e)
		}
		return nil
	})
	slices.SortStableFunc(items, func(a, b v1alpha1.Event) int {
		return a.LastTimestamp.Compare(b.LastTimestamp.Time)
	})
	return items, version, err
}

// Event returns one event; ErrNotFound if there is none of that name.
func (s *Store) Event(cluster, name string) (*v1alpha1.Event, error) {
	k, ok := eventKey(cluster, name)
	if !ok {
		return nil, ErrNotFound
	}
	e := new(v1alpha1.Event)
	err := s.db.View(func(tx *bbolt.Tx) error {
		v := tx.Bucket(eventsBucket).Get(k)
		if v == nil {
			return ErrNotFound
		}
		return json.Unmarshal(v, e)
	})
	if err == nil && e.Name != name {
		err = ErrNotFound
	}
	return e, err
}

// eventName names an event after its object and the version it was made at.
func eventName(object string, version uint64) string {
	return object + "." + strconv.FormatUint(version, 16)
}

// eventKey is where the event of that name is stored. The keys of a cluster's
// events have the order in which they were made.
func eventKey(cluster, name string) (k []byte, ok bool) {
	i := strings.LastIndexByte(name, '.')
	version, err := strconv.ParseUint(name[i+1:], 16, 64)
	if i < 0 || err != nil {
		return nil, false
	}
	return binary.BigEndian.AppendUint64([]byte(cluster+sep), version), true
}
