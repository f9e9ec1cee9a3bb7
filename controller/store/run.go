package store

import (
	"encoding/json"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"github.com/wiber/wiber/controller/proc"
	"github.com/wiber/wiber/manifests/v1alpha1"
)

// Run is what the controller knows of a node's processes: the one that runs,
// how the last one ended, and when the next may start. It outlives the
// controller, so that the next one neither starts a node twice nor forgets a
// back-off.
type Run struct {
	Cluster string `json:"cluster"`
	Node    string `json:"node"`
	// Starts counts the starts. It is written before the process is started, so a
	// number without a process is a start that nobody saw the end of.
	Starts uint64 `json:"starts"`
	// Process is the process that was started last; nil when its end was seen.
	Process *proc.Identity `json:"process,omitempty"`
	// StartedAt is when it was started.
	StartedAt time.Time `json:"startedAt,omitzero"`
	// Executable, DataDir, LogFile and Ports are what it was started with.
	Executable string `json:"executable,omitempty"`
	DataDir    string `json:"dataDir,omitempty"`
	LogFile    string `json:"logFile,omitempty"`
	Ports      []int  `json:"ports,omitempty"`
	// Settings is a hash of the settings it was started with, Generation that of
	// the cluster's spec.
	Settings   string `json:"settings,omitempty"`
	Generation int64  `json:"generation,omitempty"`
	// UID and Incarnation are what it said about its folder.
	UID         string `json:"uid,omitempty"`
	Incarnation uint64 `json:"incarnation,omitempty"`
	// Stopping: it was asked to end, and its end was not seen yet.
	Stopping bool `json:"stopping,omitempty"`
	// Restarts counts the starts that followed an end nobody asked for.
	// RestartedAt is when the last of them was.
	Restarts    int       `json:"restarts,omitempty"`
	RestartedAt time.Time `json:"restartedAt,omitzero"`
	// Failures counts the ends in a row that nobody asked for; the back-off
	// doubles with each.
	Failures int `json:"failures,omitempty"`
	// NextStart is when the back-off is over.
	NextStart time.Time `json:"nextStart,omitzero"`
	// Again is set between an end nobody asked for and the start that follows.
	Again bool `json:"again,omitempty"`
	// Halted says why the node is not started again until a person asks for it
	// or changes its spec; empty when it may be started. HaltedUnder is a hash of
	// the spec that it was halted under.
	Halted      string `json:"halted,omitempty"`
	HaltedUnder string `json:"haltedUnder,omitempty"`
	// LastTermination is how the last process ended.
	LastTermination *v1alpha1.Termination `json:"lastTermination,omitempty"`
}

// Run returns the record of a node, or a new one if there is none.
func (s *Store) Run(cluster, node string) (Run, error) {
	r := Run{Cluster: cluster, Node: node}
	err := s.db.View(func(tx *bbolt.Tx) error {
		v := tx.Bucket(runsBucket).Get([]byte(cluster + sep + node))
		if v == nil {
			return nil
		}
		return json.Unmarshal(v, &r)
	})
	if err != nil {
		return r, fmt.Errorf("store: read the record of node %s of cluster %s: %w", node, cluster, err)
	}
	return r, nil
}

// PutRun writes the record of a node. When it returns, the record is on disk.
func (s *Store) PutRun(r Run) error {
	v, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return s.db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket(runsBucket).Put([]byte(r.Cluster+sep+r.Node), v)
	})
}

// DeleteRun removes the record and the hold of a node, if there are any.
func (s *Store) DeleteRun(cluster, node string) error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		if err := tx.Bucket(holdsBucket).Delete([]byte(cluster + sep + node)); err != nil {
			return err
		}
		return tx.Bucket(runsBucket).Delete([]byte(cluster + sep + node))
	})
}
