package v1alpha1

import (
	"maps"
	"strings"
)

// Group and Version name this API; APIVersion is both as manifests write it.
const (
	Group      = "wiber.dev"
	Version    = "v1alpha1"
	APIVersion = Group + "/" + Version
)

// The kinds of this API.
const (
	KindCluster = "Cluster"
	KindNode    = "Node"
	KindTopic   = "Topic"
	KindEvent   = "Event"
)

// AnnotationCreatedBy marks topics that nobody declared; its value is then
// CreatedByPublish. Such topics are no drift.
const (
	AnnotationCreatedBy = Group + "/created-by"
	CreatedByPublish    = "publish"
)

// ExitNoRestart is the exit code by which a node says that starting it again
// cannot help until a person has acted: an erased or damaged data folder, or
// one that was made with other fixed settings. No restart policy overrides it.
const ExitNoRestart = 78

// TypeMeta says what kind an object is and in which version it is written.
type TypeMeta struct {
	APIVersion string `json:"apiVersion,omitempty"`
	Kind       string `json:"kind,omitempty"`
}

// Type returns the type information itself, to read or to set.
func (t *TypeMeta) Type() *TypeMeta { return t }

// ObjectMeta is what every stored object carries. A person writes name,
// namespace, labels and annotations; the controller sets the rest.
type ObjectMeta struct {
	// Name is the object's name: a cluster's, a node's id, a topic's.
	Name string `json:"name,omitempty"`
	// Namespace is the name of the cluster a Node, a Topic or an Event belongs to.
	// A Cluster has none.
	Namespace string `json:"namespace,omitempty"`
	// UID tells an object from a later one of the same name.
	UID string `json:"uid,omitempty"`
	// Generation grows by one with every change of the spec.
	Generation int64 `json:"generation,omitempty"`
	// ResourceVersion changes with every change of the object. A client
	// compares it for equality only; a write that carries an old one is refused. A
	// watch goes on from that of a list or a bookmark.
	ResourceVersion string `json:"resourceVersion,omitempty"`
	// CreationTimestamp is when the controller first stored the object.
	CreationTimestamp Time `json:"creationTimestamp,omitzero"`
	// Labels and Annotations are carried and have no effect of their own.
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	// DeletionTimestamp is set while the object is being deleted.
	DeletionTimestamp *Time `json:"deletionTimestamp,omitempty"`
}

// Meta returns the metadata itself, to read or to set.
func (m *ObjectMeta) Meta() *ObjectMeta { return m }

func (m ObjectMeta) clone() ObjectMeta {
	m.Labels = maps.Clone(m.Labels)
	m.Annotations = maps.Clone(m.Annotations)
	m.DeletionTimestamp = clonePointer(m.DeletionTimestamp)
	return m
}

// Object is any object of this API: *Cluster, *Node, *Topic or *Event.
type Object interface {
	Type() *TypeMeta
	Meta() *ObjectMeta
}

// ListMeta is the metadata of a list.
type ListMeta struct {
	ResourceVersion string `json:"resourceVersion,omitempty"`
}

// List is several objects of one kind as the API returns them. Make it with
// NewList, so that an empty list is written as [] and not as null.
type List[T any] struct {
	TypeMeta `json:",inline"`
	Metadata ListMeta `json:"metadata,omitzero"`
	Items    []T      `json:"items"`
}

// ClusterList, NodeList, TopicList and EventList are the lists of the kinds.
type (
	ClusterList = List[Cluster]
	NodeList    = List[Node]
	TopicList   = List[Topic]
	EventList   = List[Event]
)

// NewList returns the list of the given kind (KindNode gives a NodeList) that
// holds items. The list keeps the slice.
func NewList[T any](kind string, items []T) List[T] {
	if items == nil {
		items = []T{}
	}
	return List[T]{TypeMeta: TypeMeta{APIVersion: APIVersion, Kind: kind + "List"}, Items: items}
}

// Resource returns the lower-case plural of a kind, as URLs and messages use
// it: "nodes" for "Node".
func Resource(kind string) string { return strings.ToLower(kind) + "s" }

// KindOf returns the kind that a word names: "Node", "node" and "nodes" are
// the same, in any case. It reports whether there is such a kind.
func KindOf(word string) (kind string, ok bool) {
	word = strings.ToLower(word)
	for _, kind := range []string{KindCluster, KindNode, KindTopic} {
		if word == strings.ToLower(kind) || word == Resource(kind) {
			return kind, true
		}
	}
	return "", false
}

func clonePointer[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}
