package controller

import (
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/wiber/wiber/manifests/v1alpha1"
	"github.com/wiber/wiber/timesvc"
	"github.com/wiber/wiber/topics/client"
	"github.com/wiber/wiber/topics/gateway"
)

const (
	// messageTimeout is how long a node waits for a leader before it says that
	// there is none, and messageStall how long a node may be silent: longer, so
	// that it is not taken for hung while it waits.
	messageTimeout = 10 * time.Second
	messageStall   = 11 * time.Second
)

// messengers are the clients through which the gateway reaches messages, one for
// each cluster, made when it is first asked for. When a cluster's addresses
// change the next request gets a new one, and the old one is closed after the
// last request that uses it.
type messengers struct {
	clock timesvc.Clock

	mu sync.Mutex
	of map[string]*messenger // by cluster
}

// messenger is guarded by messengers.mu, but for client.
type messenger struct {
	client *client.Client
	nodes  []string
	uses   int
	old    bool // no new request gets it
}

// take returns the client of a cluster; release gives it back.
func (m *messengers) take(cl *v1alpha1.Cluster) (c *client.Client, release func(), err error) {
	var nodes []string
	for _, n := range cl.Spec.Nodes {
		nodes = append(nodes, net.JoinHostPort(n.Host, strconv.Itoa(n.Port)))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	current := m.of[cl.Name]
	if current == nil || !slices.Equal(current.nodes, nodes) {
		c, err := client.New(client.Options{Nodes: nodes, Clock: m.clock, Timeout: messageTimeout, Stall: messageStall})
		if err != nil {
			return nil, nil, err
		}
		m.retireLocked(cl.Name)
		current = &messenger{client: c, nodes: nodes}
		if m.of == nil {
			m.of = map[string]*messenger{}
		}
		m.of[cl.Name] = current
	}
	current.uses++
	return current.client, sync.OnceFunc(func() { m.release(current) }), nil
}

func (m *messengers) release(u *messenger) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if u.uses--; u.uses == 0 && u.old {
		_ = u.client.Close()
	}
}

// retire forgets the client of a cluster.
func (m *messengers) retire(cluster string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.retireLocked(cluster)
}

func (m *messengers) retireLocked(cluster string) {
	u := m.of[cluster]
	if u == nil {
		return
	}
	delete(m.of, cluster)
	if u.old = true; u.uses == 0 {
		_ = u.client.Close()
	}
}

// close retires all.
func (m *messengers) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name := range m.of {
		m.retireLocked(name)
	}
}

// Messages implements apiserver.Backend.
func (c *Controller) Messages(cluster string) (*client.Client, func(), error) {
	cl, err := c.pick(cluster)
	if err != nil {
		return nil, nil, err
	}
	if !c.anyAlive(cl) {
		return nil, nil, gateway.NoQuorum("no node of cluster %q runs; start one with wiberctl start, or all with POST /cluster/start", cl.Name)
	}
	return c.messengers.take(cl)
}

// anyAlive says whether a node of the cluster was last seen alive: else a request
// need not wait for its timeout.
func (c *Controller) anyAlive(cl *v1alpha1.Cluster) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(cl.Spec.Nodes, func(n v1alpha1.NodeSpec) bool { return c.nodeLocked(key{cl.Name, n.ID}).seen.Alive })
}

// NodeAddr implements apiserver.Backend.
func (c *Controller) NodeAddr(cluster, id string) (string, error) {
	_, spec, err := c.pickNode(cluster, id)
	if err != nil {
		return "", err
	}
	return address(spec, spec.HTTPPort), nil
}
