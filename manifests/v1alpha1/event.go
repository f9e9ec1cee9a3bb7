package v1alpha1

// Event says that something happened to an object: what a person wants to read
// when something is wrong. The controller makes events; nobody applies them.
// Its namespace is the cluster's name, also where the object is the Cluster.
//
// The same (object, reason, message) again within 10 minutes is no new event:
// the Count of the old one rises.
type Event struct {
	TypeMeta   `json:",inline"`
	ObjectMeta `json:"metadata"`
	// InvolvedObject is what it happened to.
	InvolvedObject ObjectReference `json:"involvedObject"`
	// EventType says whether somebody may have to act. (Type is a method.)
	EventType EventType `json:"type"`
	// Reason is one CamelCase word for programs, Message a sentence for people.
	Reason  string `json:"reason"`
	Message string `json:"message"`
	// Count is how often it happened, from FirstTimestamp to LastTimestamp.
	Count          int         `json:"count"`
	FirstTimestamp MicroTime   `json:"firstTimestamp"`
	LastTimestamp  MicroTime   `json:"lastTimestamp"`
	Source         EventSource `json:"source"`
}

// ObjectReference names an object. A Cluster has no namespace.
type ObjectReference struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	UID       string `json:"uid,omitempty"`
}

// EventSource says who saw it: SourceController, or "node/n2".
type EventSource struct {
	Component string `json:"component"`
}

// SourceController is the component of what the controller did or saw itself.
const SourceController = "controller"

// EventType is one of Normal and Warning.
type EventType string

// The types of events.
const (
	EventNormal  EventType = "Normal"
	EventWarning EventType = "Warning"
)

// The reasons of events.
const (
	// About any object.
	EventCreated    = "Created"
	EventConfigured = "Configured"
	EventDeleting   = "Deleting" // its nodes are being stopped
	EventDeleted    = "Deleted"
	EventRefused    = "Refused" // somebody asked for something that would do harm

	// About a node's process.
	EventStarting    = "Starting"
	EventStarted     = "Started"
	EventStartFailed = "StartFailed"
	EventAdopted     = "Adopted"
	EventReady       = "Ready"
	EventNotReady    = "NotReady" // it was ready, and is not any more
	EventDraining    = "Draining" // it is asked to end
	EventKilling     = "Killing"  // a signal is sent
	EventExited      = "Exited"
	EventBackOff     = "BackOff" // the next start is later
	EventHeld        = "Held"
	EventHalted      = "Halted" // no next start until a person acts

	// What nodes see of each other.
	EventLeaderChanged = "LeaderChanged"
	EventSuspect       = "Suspect"
	EventDead          = "Dead"
	EventLeft          = "Left"
	EventAlive         = "Alive" // it was one of those before
)

// Annotations of an event with EventLeaderChanged, for programs: the group
// ("catalogue", "0", …), its term, who leads it, and who did before, if known.
const (
	AnnotationGroup      = Group + "/group"
	AnnotationTerm       = Group + "/term"
	AnnotationLeader     = Group + "/leader"
	AnnotationLastLeader = Group + "/last-leader"
)

// Clone returns a copy that shares nothing with e.
func (e *Event) Clone() *Event {
	d := *e
	d.ObjectMeta = e.ObjectMeta.clone()
	return &d
}
