package controller

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wiber/wiber/manifests/v1alpha1"
)

// gossipFresh is how long what a node last said about others counts: a node that
// hangs has no opinion.
const gossipFresh = 5 * time.Second

// The states in which nodes see each other.
const (
	gossipAlive   = "alive"
	gossipSuspect = "suspect"
	gossipDead    = "dead"
	gossipLeft    = "left"
	gossipUnknown = "unknown" // it has not met the node since it started: that says nothing
)

// gossipStates are those that say something. That a node knows nothing yet of
// another one is no news.
var gossipStates = map[string]bool{gossipAlive: true, gossipSuspect: true, gossipDead: true, gossipLeft: true}

// gossipStatus is what a node says about another one in its /v1/status.
type gossipStatus struct {
	Node  string `json:"node"`
	State string `json:"state"`
}

// observed is what nodes told of groups and of each other, to notice what
// changes. It is guarded by Controller.mu.
type observed struct {
	leaders map[group]leadership
	views   map[key]view // by the node whose view it is
}

// group is a raft group of a cluster.
type group struct{ cluster, id string }

func (g group) String() string {
	if g.id == catalogue {
		return "the " + g.id
	}
	return "shard " + g.id
}

// leadership is the newest one that any node told of. Term 0: it is what an
// earlier controller knew.
type leadership struct {
	leader string
	term   uint64
}

// view is how a node sees the others.
type view struct {
	at     time.Duration // on the monotonic clock
	states map[string]string
}

func newObserved() observed {
	return observed{leaders: map[group]leadership{}, views: map[key]view{}}
}

// remember takes the leaders that an earlier controller wrote down, so that those
// that still lead are no news.
func (o *observed) remember(nodes []v1alpha1.Node) {
	for _, n := range nodes {
		for _, id := range n.Status.LeaderOf {
			o.leaders[group{n.Namespace, id}] = leadership{leader: n.Name}
		}
	}
}

// forget drops what is known of a cluster: a later one of that name may begin
// with term 1 again.
func (o *observed) forget(cluster string) {
	for g := range o.leaders {
		if g.cluster == cluster {
			delete(o.leaders, g)
		}
	}
	for k := range o.views {
		if k.cluster == cluster {
			delete(o.views, k)
		}
	}
}

// observe compares what a node told with what was known, and records what
// changed. It is called by the worker of the node's key.
func (c *Controller) observe(n *node) {
	st := &n.machine.status
	var news []v1alpha1.Event
	c.mu.Lock()
	for _, g := range st.Groups {
		if e, ok := c.observed.leaderOf(group{n.key.cluster, g.ID}, g); ok {
			news = append(news, e)
		}
	}
	news = append(news, c.observed.viewOf(n.key, st.Gossip, c.clock.Mono())...)
	c.mu.Unlock()
	for _, e := range news {
		c.events.record(e)
	}
}

// leaderOf takes what a node says about the leader of a group. A higher term
// counts, whoever tells of it; what a node says that lags behind does not.
func (o *observed) leaderOf(g group, told groupStatus) (e v1alpha1.Event, news bool) {
	was := o.leaders[g]
	if told.Leader == "" || told.Term <= was.term {
		return e, false
	}
	o.leaders[g] = leadership{told.Leader, told.Term}
	if was.term == 0 && was.leader == told.Leader {
		return e, false
	}
	message := fmt.Sprintf("leads %v in term %d", g, told.Term)
	switch {
	case was.leader == told.Leader:
		message += ", again"
	case was.leader != "":
		message += ", after " + was.leader
	}
	e = about(key{g.cluster, told.Leader}, v1alpha1.EventNormal, v1alpha1.EventLeaderChanged, message)
	e.Annotations = map[string]string{
		v1alpha1.AnnotationGroup:  g.id,
		v1alpha1.AnnotationTerm:   strconv.FormatUint(told.Term, 10),
		v1alpha1.AnnotationLeader: told.Leader,
	}
	if was.leader != "" {
		e.Annotations[v1alpha1.AnnotationLastLeader] = was.leader
	}
	return e, true
}

// viewOf takes how a node sees the others.
func (o *observed) viewOf(from key, told []gossipStatus, now time.Duration) (news []v1alpha1.Event) {
	was := o.views[from].states
	states := map[string]string{}
	for id, state := range was {
		states[id] = state // one that is not named now is as it was
	}
	for _, t := range told {
		if t.Node == from.node || t.State == was[t.Node] || !gossipStates[t.State] {
			continue
		}
		states[t.Node] = t.State
		reason, kind := v1alpha1.EventAlive, v1alpha1.EventNormal
		switch t.State {
		case gossipAlive:
			if was[t.Node] == "" {
				continue // the first look at a healthy node is no news
			}
		case gossipSuspect:
			reason, kind = v1alpha1.EventSuspect, v1alpha1.EventWarning
		case gossipDead:
			reason, kind = v1alpha1.EventDead, v1alpha1.EventWarning
		case gossipLeft:
			reason = v1alpha1.EventLeft
		}
		e := about(key{from.cluster, t.Node}, kind, reason, fmt.Sprintf("%s sees it as %s", from.node, t.State))
		e.Source.Component = "node/" + from.node
		news = append(news, e)
	}
	if told != nil {
		o.views[from] = view{now, states}
	}
	return news
}

// missedBy says which of the other nodes see a node as suspect, dead or gone, and
// how, if those are most of the nodes that see anything now. One that is alone
// with its opinion may be the one that is cut off.
func (o *observed) missedBy(k key, now time.Duration) (reason, message string) {
	var by []string
	of, states := 0, map[string]bool{}
	for from, v := range o.views {
		state, ok := v.states[k.node]
		if !ok || state == gossipUnknown || from.cluster != k.cluster || from.node == k.node || now-v.at > gossipFresh {
			continue
		}
		of++
		if state != gossipAlive {
			by = append(by, from.node)
			states[state] = true
		}
	}
	if 2*len(by) <= of {
		return "", ""
	}
	slices.Sort(by)
	state, verb := gossipDead, "see"
	reason = v1alpha1.EventDead
	switch {
	case states[gossipSuspect]:
		state, reason = gossipSuspect, v1alpha1.EventSuspect
	case states[gossipLeft]:
		state, reason = gossipLeft, v1alpha1.EventLeft
	}
	if len(by) == 1 {
		verb = "sees"
	}
	return reason, fmt.Sprintf("%s %s it as %s", strings.Join(by, ", "), verb, state)
}
