package member

import (
	"context"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/wiber/wiber/topics"
)

const askEvery = 200 * time.Millisecond

// join returns when this folder belongs to a cluster and that is on disk.
func (n *node) join(ctx context.Context) error {
	if n.identity.Member != nil {
		return nil
	}
	forming := n.o.Bootstrap
	if len(forming) == 0 {
		forming = nodeIDs(n.o.Cluster, false)
	}
	all := nodeIDs(n.o.Cluster, true)
	for _, name := range forming {
		if !slices.Contains(all, name) {
			return &RefusedError{"--bootstrap names " + name + ", which is not a node of the file; its nodes are " + strings.Join(all, ", ")}
		}
	}
	n.boot.mu.Lock()
	n.boot.b = NewBootstrap(BootstrapConfig{Self: n.identity, Cluster: n.o.Cluster.Name, Shards: n.o.Cluster.Spec.Shards,
		Forming: forming, All: all, Draw: func() (string, Secret) { return drawID(), drawSecret() }})
	n.boot.b.Start()
	n.boot.mu.Unlock()
	ticker := n.clock.NewTicker(askEvery)
	defer ticker.Stop()
	said := ""
	for {
		done, waiting, err := n.joined()
		if done || err != nil {
			return err
		}
		if names := strings.Join(waiting, ", "); names != said {
			said = names
			n.log.Info("waiting for nodes to form or join the cluster", "nodes", names)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-n.drain:
			return errDrained
		case <-ticker.C():
			n.askPeers(ctx)
		}
	}
}

// joined syncs what the bootstrap has decided.
func (n *node) joined() (done bool, waiting []string, err error) {
	n.boot.mu.Lock()
	defer n.boot.mu.Unlock()
	b := n.boot.b
	if b.Err() != nil {
		return false, nil, b.Err()
	}
	n.boot.wait = b.Waiting()
	if b.Decided() == nil {
		return false, n.boot.wait, nil
	}
	id := n.identity
	id.Member = b.Decided()
	if err := storeIdentity(n.meta, &id); err != nil {
		return false, nil, err
	}
	n.identity = id
	if s := id.Member.Secret; !s.IsZero() {
		n.secret.set(s)
	}
	n.log.Info("joined the cluster", "cluster", id.Member.Cluster, "clusterId", id.Member.ClusterID, "raftId", id.RaftID())
	return true, nil, nil
}

// askPeers asks every peer once, one after the other.
func (n *node) askPeers(ctx context.Context) {
	n.boot.mu.Lock()
	peers, q := n.boot.b.Peers(), n.boot.b.Ask()
	n.boot.mu.Unlock()
	dialer := &net.Dialer{LocalAddr: localAddr(n.self.Host)}
	for _, peer := range peers {
		spec, _ := n.o.Cluster.Spec.Node(peer)
		a, err := askPeer(ctx, dialer, peerAddr(spec), q)
		n.boot.mu.Lock()
		if err != nil {
			n.boot.b.Lost(peer)
		} else {
			n.boot.b.Handle(peer, a)
		}
		n.boot.mu.Unlock()
	}
}

// localAddr makes dials leave from the node's own address, so that faults can
// cut the link between two nodes by their addresses.
func localAddr(host string) net.Addr {
	if ip := net.ParseIP(host); ip != nil && !ip.IsUnspecified() {
		return &net.TCPAddr{IP: ip}
	}
	return nil
}

// reply answers the question of a bootstrapping peer.
func (n *node) reply(q Ask) Answer {
	if e := n.engine.Load(); e != nil {
		a := Answer{Cluster: n.o.Cluster.Name, Node: n.o.Node, UID: n.identity.UID, Member: e.Membership(), Reads: topics.EntryVersion}
		a.Member.Secret = n.secretFor(q, a.Member)
		if m, ok := a.Member.ByName(q.Node); ok && m.UID == "" && q.Cluster == a.Cluster && len(q.UID) == 32 {
			e.Enter(q.Node, q.UID)
		}
		return a
	}
	n.boot.mu.Lock()
	defer n.boot.mu.Unlock()
	a := Answer{Cluster: n.o.Cluster.Name, Node: n.o.Node, UID: n.identity.UID, Reads: topics.EntryVersion}
	if n.identity.Member != nil {
		a.Member = n.identity.Member.clone()
		a.Member.Secret = n.secretFor(q, a.Member)
	}
	if n.boot.b != nil {
		a.Forming = n.boot.b.Ask().Forming
	}
	return a
}
