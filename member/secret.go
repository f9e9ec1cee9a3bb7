package member

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/wiber/wiber/topics"
)

// Secret is what the nodes of a cluster share: 32 random bytes, drawn with the
// cluster's id and kept in each node's folder. It is used for nothing but deriving
// keys, one per purpose. It is not printed.
type Secret [32]byte

// drawSecret draws a cluster's secret.
func drawSecret() (s Secret) {
	_, _ = rand.Read(s[:])
	return s
}

// IsZero says that there is no secret.
func (s Secret) IsZero() bool { return s == Secret{} }

// Key derives the key of a purpose, which is unlike that of any other purpose and
// of any other cluster.
func (s Secret) Key(clusterID, purpose string) (key [32]byte) {
	derived, err := hkdf.Key(sha256.New, s[:], []byte(clusterID), "wiber/1 "+purpose, len(key))
	if err != nil {
		panic(err) // only a length that is too large is refused
	}
	return [32]byte(derived)
}

// String implements fmt.Stringer; it tells nothing.
func (Secret) String() string { return "(secret)" }

// GoString implements fmt.GoStringer; it tells nothing.
func (Secret) GoString() string { return "(secret)" }

// LogValue implements slog.LogValuer; it tells nothing.
func (Secret) LogValue() slog.Value { return slog.StringValue("(secret)") }

// MarshalText implements encoding.TextMarshaler: for the folder, and for answers
// to nodes of the cluster.
func (s Secret) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, s[:]), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Secret) UnmarshalText(text []byte) error {
	if len(text) != 2*len(s) {
		return errors.New("a secret of another length")
	}
	_, err := hex.Decode(s[:], text)
	return err
}

// sharedSecret is the cluster's secret, once this node knows it.
type sharedSecret struct {
	once  sync.Once
	known chan struct{} // closed when s is set
	s     Secret        // set once, before known is closed
}

func newSharedSecret() *sharedSecret { return &sharedSecret{known: make(chan struct{})} }

func (x *sharedSecret) set(s Secret) {
	x.once.Do(func() {
		x.s = s
		close(x.known)
	})
}

func (x *sharedSecret) get() Secret {
	select {
	case <-x.known:
		return x.s
	default:
		return Secret{}
	}
}

// key waits until the node knows its cluster's secret and derives the key of a
// purpose. The node must have joined its cluster.
func (n *node) key(ctx context.Context, purpose string) ([32]byte, error) {
	select {
	case <-n.secret.known:
		return n.secret.s.Key(n.identity.Member.ClusterID, purpose), nil
	case <-ctx.Done():
		return [32]byte{}, context.Cause(ctx)
	}
}

// secretEvery is the pause between two attempts to learn the secret.
const secretEvery = time.Second

// learnSecret finds the secret of a cluster that was formed by a program which
// knew none: a peer has it, or it is in the catalogue, or it is drawn and put
// there, where the first one wins. It is drawn only when all nodes that are not
// stopped have said that they can read such an entry.
func (n *node) learnSecret(ctx context.Context, e *Engine) error {
	pause := n.clock.NewTicker(secretEvery)
	defer pause.Stop()
	for {
		s, ok := e.Secret()
		if !ok {
			s, ok = n.askForSecret(ctx)
		}
		if !s.IsZero() {
			return n.keepSecret(s)
		}
		if ok {
			drawn := topics.Secret(drawSecret())
			within, cancel := context.WithTimeout(ctx, e.c.RequestTimeout)
			_, err := e.commit(within, topics.NewSecret(drawn))
			cancel()
			if err == nil {
				continue // it, or an earlier one, is in this node's copy
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-pause.C():
		}
	}
}

// askForSecret asks every other node for the secret. If none knows one, can says
// whether all that are not stopped would understand one in the catalogue.
func (n *node) askForSecret(ctx context.Context) (s Secret, can bool) {
	m := n.identity.Member
	q := Ask{Cluster: m.Cluster, Node: n.o.Node, UID: n.identity.UID}
	dialer := &net.Dialer{LocalAddr: localAddr(n.self.Host)}
	can = true
	for _, spec := range n.o.Cluster.Spec.Nodes {
		if spec.ID == n.o.Node {
			continue
		}
		a, err := askPeer(ctx, dialer, peerAddr(spec), q)
		switch {
		case err != nil:
			can = can && spec.Stopped
		case a.Member == nil || a.Member.ClusterID != m.ClusterID || a.Reads < topics.EntryVersion:
			can = false
		case !a.Member.Secret.IsZero():
			return a.Member.Secret, false
		}
	}
	return Secret{}, can
}

// keepSecret writes the secret into the folder, and then it is used.
func (n *node) keepSecret(s Secret) error {
	n.boot.mu.Lock()
	id := n.identity
	id.Member = id.Member.clone()
	id.Member.Secret = s
	err := storeIdentity(n.meta, &id)
	n.boot.mu.Unlock()
	if err != nil {
		return err
	}
	n.secret.set(s)
	n.log.Info("the cluster's secret is known", "cluster", id.Member.Cluster)
	return nil
}

// secretFor is the secret for a node that asks, if it is one of the cluster's.
func (n *node) secretFor(q Ask, m *Membership) Secret {
	asker, ok := m.ByName(q.Node)
	if !ok || q.Cluster != m.Cluster || asker.UID == "" || asker.UID != q.UID {
		return Secret{}
	}
	return n.secret.get()
}

// closeFiles takes log and state of a folder away from the eyes of other users:
// programs that knew no secret made them readable for the folder's group.
func closeFiles(dir string) error {
	for _, sub := range []string{"log", "state"} {
		files, err := os.ReadDir(filepath.Join(dir, sub))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("data folder: %w", err)
		}
		for _, f := range files {
			if !f.Type().IsRegular() {
				continue
			}
			if err := os.Chmod(filepath.Join(dir, sub, f.Name()), 0o600); err != nil {
				return fmt.Errorf("data folder: %w", err)
			}
		}
	}
	return nil
}
