package store

import (
	"encoding/json"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"github.com/wiber/wiber/controller/proc"
)

var holdsBucket = []byte("holds")

// Hold says that a node is kept down, as a fault that somebody asked for. It
// outlives the controller.
type Hold struct {
	Cluster string `json:"cluster"`
	Node    string `json:"node"`
	// Since is when it began, Until when it ends by the wall clock; zero means not
	// before somebody starts the node.
	Since time.Time `json:"since"`
	Until time.Time `json:"until,omitzero"`
	// Process is the process that was to die, nil if there was none, and Signal the
	// name of what it was sent.
	Process *proc.Identity `json:"process,omitempty"`
	Signal  string         `json:"signal,omitempty"`
}

// Hold returns the hold of a node, or nil if there is none.
func (s *Store) Hold(cluster, node string) (*Hold, error) {
	var h *Hold
	err := s.db.View(func(tx *bbolt.Tx) error {
		v := tx.Bucket(holdsBucket).Get([]byte(cluster + sep + node))
		if v == nil {
			return nil
		}
		h = new(Hold)
		return json.Unmarshal(v, h)
	})
	if err != nil {
		return nil, fmt.Errorf("store: read the hold of node %s of cluster %s: %w", node, cluster, err)
	}
	return h, nil
}

// PutHold writes the hold of a node. When it returns, the hold is on disk.
func (s *Store) PutHold(h Hold) error {
	v, err := json.Marshal(h)
	if err != nil {
		return err
	}
	return s.db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket(holdsBucket).Put([]byte(h.Cluster+sep+h.Node), v)
	})
}

// DeleteHold removes the hold of a node, if there is one.
func (s *Store) DeleteHold(cluster, node string) error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket(holdsBucket).Delete([]byte(cluster + sep + node))
	})
}
