package v1alpha1

import "encoding/json"

// WatchEvent is one line of a watch: what became of an object.
type WatchEvent struct {
	Type WatchType `json:"type"`
	// Object is the object after the change; a deleted one as it was before. With
	// WatchBookmark it is an object of the kind that has nothing but a
	// resourceVersion, with WatchError a Status.
	Object json.RawMessage `json:"object"`
}

// WatchType is the type of a WatchEvent.
type WatchType string

// The types of a WatchEvent.
const (
	WatchAdded    WatchType = "ADDED"
	WatchModified WatchType = "MODIFIED"
	WatchDeleted  WatchType = "DELETED"
	// WatchBookmark says that everything up to its resourceVersion was sent: a
	// watch may continue from there.
	WatchBookmark WatchType = "BOOKMARK"
	// WatchError is the last event of a watch that cannot go on.
	WatchError WatchType = "ERROR"
)
