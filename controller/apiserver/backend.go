package apiserver

import (
	"context"
	"syscall"
	"time"

	"github.com/wiber/wiber/manifests/v1alpha1"
	"github.com/wiber/wiber/topics/client"
)

// Backend does what requests ask for; package controller implements it.
//
// All methods may be called concurrently. An error that a client should see is,
// or wraps, a *v1alpha1.Status; any other is answered as an internal error. A
// cluster name may be empty while there is only one cluster. A method that acts
// returns when it is done, or when ctx ends: what was begun then goes on.
type Backend interface {
	// NodeStates lists the nodes of one cluster, or of all, sorted by id.
	NodeStates(cluster string) ([]NodeState, error)
	// StartAll makes every node wanted, and returns when their processes run. If
	// there is no cluster at all it creates the default one.
	StartAll(ctx context.Context, cluster string) error
	// StopAll makes every node stopped, and returns when their processes ended.
	StopAll(ctx context.Context, cluster string) error
	// Shutdown stops every node without changing what is wanted, removes their
	// data folders if purge is set, and ends the controller soon after it returned.
	Shutdown(ctx context.Context, purge bool) (Shutdown, error)

	// Kill sends a signal; if it is one that ends a process, Kill returns when it
	// has. The wanted state stays.
	Kill(ctx context.Context, cluster, id string, sig syscall.Signal) error
	// Hold does what Kill does with a signal that ends a process, and keeps the node
	// down for d, or, if d is 0, until it is restarted or started. It takes a node
	// without a process too.
	Hold(ctx context.Context, cluster, id string, sig syscall.Signal, d time.Duration) error
	// Restart drains and stops the node and returns when its new process runs.
	Restart(ctx context.Context, cluster, id string, force bool) error
	// Stop and Start change the wanted state of one node, and return when its
	// process ended, or runs.
	Stop(ctx context.Context, cluster, id string) error
	Start(ctx context.Context, cluster, id string) error

	// Clusters lists all clusters, or the one that is named.
	Clusters(name string) (v1alpha1.ClusterList, error)
	Cluster(name string) (*v1alpha1.Cluster, error)
	// PutCluster creates the cluster or replaces its spec. The cluster is complete
	// and valid by itself.
	PutCluster(c *v1alpha1.Cluster, dryRun bool) (Put, error)
	// DeleteCluster stops the nodes, forgets the cluster and, with purge, removes
	// its data.
	DeleteCluster(ctx context.Context, name string, purge, dryRun bool) error

	// Messages returns the client of a cluster's messages; release is called when
	// the request is done with it.
	Messages(cluster string) (c *client.Client, release func(), err error)
	// NodeAddr returns the address of a node's HTTP.
	NodeAddr(cluster, id string) (string, error)

	Nodes(cluster string) (v1alpha1.NodeList, error)
	Node(cluster, name string) (*v1alpha1.Node, error)

	// NodeLog is the file that the node's running incarnation, or its last one,
	// writes to; it need not exist yet.
	NodeLog(cluster, id string) (path string, err error)

	// Watch watches objects of one kind: clusters, nodes, topics or events.
	Watch(ctx context.Context, o WatchOptions) (Watch, error)

	// Events lists the events of one cluster, or of all, in the order in which they
	// last happened; only those of one object if its kind is given.
	Events(cluster string, object v1alpha1.ObjectReference) (v1alpha1.EventList, error)
	Event(cluster, name string) (*v1alpha1.Event, error)

	// Metrics returns what was counted since the start.
	Metrics() Metrics

	Topics(ctx context.Context, cluster string) (v1alpha1.TopicList, error)
	Topic(ctx context.Context, cluster, name string) (*v1alpha1.Topic, error)
	// PutTopic creates or changes a topic in the catalogue of its cluster.
	PutTopic(ctx context.Context, cluster string, t *v1alpha1.Topic, dryRun bool) (Put, error)
	DeleteTopic(ctx context.Context, cluster, name string, allowDataLoss, dryRun bool) error
}

// NodeState is a node in the answer of /cluster/nodes.
type NodeState struct {
	ID      string `json:"id"`
	Cluster string `json:"cluster"`
	// Running: the process lives. PID is 0 if it does not.
	Running  bool               `json:"running"`
	PID      int                `json:"pid"`
	Phase    v1alpha1.NodePhase `json:"phase"`
	Role     v1alpha1.Role      `json:"role"`
	Restarts int                `json:"restarts"`
}

// Shutdown is the answer of /cluster/shutdown.
type Shutdown struct {
	// PID is the controller's, which ends now.
	PID int `json:"pid"`
	// Stopped are the nodes whose processes were ended, as "cluster/node".
	Stopped []string `json:"stopped"`
	// Purged are the folders that were removed.
	Purged []string `json:"purged,omitempty"`
}

// Put is what a PUT did.
type Put struct {
	Object v1alpha1.Object
	// Result is "created", "configured" or "unchanged".
	Result string
	// Warnings are for the person who asked.
	Warnings []string
}
