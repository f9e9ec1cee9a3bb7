package v1alpha1

import (
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
)

// Validate returns what is wrong with the cluster by itself, in the order of
// the fields. Call Default before.
func (c *Cluster) Validate() FieldErrors {
	var errs FieldErrors
	if !validName(c.Name) {
		errs.add("metadata.name", "%q is not the name of a cluster: it has %s", c.Name, namePattern)
	}
	if c.Namespace != "" {
		errs.add("metadata.namespace", "is %q; a Cluster has no namespace, leave it out", c.Namespace)
	}
	validateMeta(&errs, &c.ObjectMeta)
	s := &c.Spec
	s.validateNodes(&errs)
	inRange(&errs, "spec.shards", s.Shards, 1, MaxShards)
	s.validateReplication(&errs)
	if s.DataRoot == "" || strings.ContainsRune(s.DataRoot, 0) {
		errs.add("spec.dataRoot", "%q is not the path of a folder", s.DataRoot)
	}
	oneOf(&errs, "spec.restartPolicy", s.RestartPolicy, RestartAlways, RestartOnFailure, RestartNever)
	inRange(&errs, "spec.backoff.initial", s.Backoff.Initial, MinBackoff, MaxBackoff)
	inRange(&errs, "spec.backoff.max", s.Backoff.Max, MinBackoff, MaxBackoff)
	if s.Backoff.Initial > s.Backoff.Max && s.Backoff.Max >= MinBackoff {
		errs.add("spec.backoff.max", "is %v, less than backoff.initial, %v", s.Backoff.Max, s.Backoff.Initial)
	}
	inRange(&errs, "spec.terminationGracePeriod", s.TerminationGracePeriod, 0, MaxTerminationGrace)
	inRange(&errs, "spec.electionTimeout", s.ElectionTimeout, MinElectionTimeout, MaxElectionTimeout)
	notYet(&errs, "spec.hotLog", s.HotLog, DefaultHotLog)
	notYet(&errs, "spec.memory", s.Memory, DefaultMemory)
	inRange(&errs, "spec.dedupIds", s.DedupIDs, 1, MaxDedupIDs)
	notYet(&errs, "spec.faultInjection", s.FaultInjection, false)
	return errs
}

// validateNodes checks the number of nodes and each of them.
func (s *ClusterSpec) validateNodes(errs *FieldErrors) {
	switch {
	case s.Replicas != 0 && len(s.Nodes) > 0:
		errs.add("spec.replicas", "is given together with spec.nodes; write one of them")
	case s.Replicas < 0 || s.Replicas > MaxNodes:
		errs.add("spec.replicas", "is %d; the range is 1 to %d", s.Replicas, MaxNodes)
		return
	case len(s.Nodes) == 0:
		errs.add("spec.nodes", "is empty; write at least one node, or replicas: 3")
		return
	case len(s.Nodes) > MaxNodes:
		errs.add("spec.nodes", "has %d nodes; the most is %d", len(s.Nodes), MaxNodes)
		return
	}
	ids := map[string]int{}
	for i := range s.Nodes {
		n, field := &s.Nodes[i], fmt.Sprintf("spec.nodes[%d]", i)
		if !validName(n.ID) {
			errs.add(field+".id", "%q is not a node's id: it has %s", n.ID, namePattern)
		} else if first, ok := ids[n.ID]; ok {
			errs.add(field+".id", "%s is already the id of spec.nodes[%d]", n.ID, first)
		} else {
			ids[n.ID] = i
		}
		validateHost(errs, field+".host", n.Host)
		n.validatePorts(errs, field)
		notYet(errs, field+".decommission", n.Decommission, false)
		validateLabels(errs, field+".labels", n.Labels)
	}
	s.validateCollisions(errs)
}

func validateHost(errs *FieldErrors, field, host string) {
	if host == "" {
		errs.add(field, "is empty; write the address the node listens on, such as %s", DefaultHost)
		return
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		if addr.IsUnspecified() || addr.IsMulticast() {
			errs.add(field, "is %s; write the one address at which others reach the node", host)
		}
		return
	}
	if last := host[strings.LastIndexByte(host, '.')+1:]; !validHostName(host) || strings.Trim(last, "0123456789") == "" {
		errs.add(field, "%q is neither an address nor a host name (without port and brackets)", host)
	}
}

// validateReplication holds the factor to the number of nodes, as long as
// shards cannot be placed on some of them.
func (s *ClusterSpec) validateReplication(errs *FieldErrors) {
	const field = "spec.replicationFactor"
	switch nodes := len(s.Nodes); {
	case nodes == 0:
	case s.ReplicationFactor < 1 || s.ReplicationFactor > nodes:
		errs.add(field, "is %d; with %d nodes the range is 1 to %d", s.ReplicationFactor, nodes, nodes)
	case s.ReplicationFactor < nodes:
		errs.add(field, "is %d (min(%d, nodes) if left out) and less than the %d nodes, which is not supported yet; write replicationFactor: %d",
			s.ReplicationFactor, DefaultReplicationFactor, nodes, nodes)
	}
}

// nodePort is one port of a node.
type nodePort struct {
	name    string // of the field
	number  int
	derived int // distance from the client port, 0 for the client port itself
}

func (n *NodeSpec) ports() []nodePort {
	return []nodePort{
		{"port", n.Port, 0},
		{"peerPort", n.PeerPort, PeerPortOffset},
		{"httpPort", n.HTTPPort, HTTPPortOffset},
		{"kafkaPort", n.KafkaPort, KafkaPortOffset},
	}
}

// isDerived reports whether the port has the value that it gets when nobody
// gives one, and is then to be explained by the client port.
func (n *NodeSpec) isDerived(p nodePort) bool {
	return p.derived > 0 && p.number == n.Port+p.derived
}

const maxPort = 65535

func (n *NodeSpec) validatePorts(errs *FieldErrors, field string) {
	if n.Port < 1 || n.Port > maxPort {
		errs.add(field+".port", "is %d; a port is 1 to %d", n.Port, maxPort)
		return
	}
	for _, p := range n.ports()[1:] {
		switch {
		case p.number >= 1 && p.number <= maxPort:
		case n.isDerived(p):
			errs.add(field+".port", "is %d, so %s would be %d (port+%d), over %d; write a lower port, or %s", n.Port, p.name, p.number, p.derived, maxPort, p.name)
		default:
			errs.add(field+"."+p.name, "is %d; a port is 1 to %d", p.number, maxPort)
		}
	}
}

// socket is a port on a host. Different names of one host are not recognised,
// except for the loopback address.
type socket struct {
	host string
	port int
}

func (n *NodeSpec) socket(p nodePort) socket {
	host := strings.ToLower(n.Host)
	if host == "localhost" {
		host = DefaultHost
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		host = addr.Unmap().String()
	}
	return socket{host, p.number}
}

// validateCollisions refuses two ports of the cluster that are the same, derived
// ones included. It names the first collision of a node: the others usually
// follow from it.
func (s *ClusterSpec) validateCollisions(errs *FieldErrors) {
	taken := map[socket]string{} // -> the field that has it
	for i := range s.Nodes {
		n := &s.Nodes[i]
		for _, p := range n.ports() {
			if p.number < 1 || p.number > maxPort {
				continue
			}
			field, says := portField(i, n, p)
			if other, ok := taken[n.socket(p)]; ok {
				errs.add(field, "%s on %s is already %s", says, n.Host, other)
				break
			}
			taken[n.socket(p)] = describePort(i, n, p)
		}
	}
}

// portField returns the field that a person changes to move the port, and the
// port as that field's message begins with it.
func portField(i int, n *NodeSpec, p nodePort) (field, says string) {
	if n.isDerived(p) {
		return fmt.Sprintf("spec.nodes[%d].port", i), fmt.Sprintf("is %d, so %s is %d (port+%d), which", n.Port, p.name, p.number, p.derived)
	}
	return fmt.Sprintf("spec.nodes[%d].%s", i, p.name), fmt.Sprint(p.number)
}

func describePort(i int, n *NodeSpec, p nodePort) string {
	if n.isDerived(p) {
		return fmt.Sprintf("the %s of spec.nodes[%d] (port+%d)", p.name, i, p.derived)
	}
	return fmt.Sprintf("the %s of spec.nodes[%d]", p.name, i)
}

// ValidateStored returns what is wrong with a cluster that is about to be
// stored, beyond Validate: its data root must be absolute by now.
func (c *Cluster) ValidateStored() FieldErrors {
	var errs FieldErrors
	if !filepath.IsAbs(c.Spec.DataRoot) {
		errs.add("spec.dataRoot", "%s is relative; wiberctl makes it absolute, other clients have to do so, too", c.Spec.DataRoot)
	}
	return errs
}

// ValidateUpdate returns why the cluster cannot take the place of old. Both
// have their defaults and are valid by themselves.
func (c *Cluster) ValidateUpdate(old *Cluster) FieldErrors {
	var errs FieldErrors
	fixed(&errs, "spec.shards", c.Spec.Shards, old.Spec.Shards)
	fixed(&errs, "spec.dataRoot", filepath.Clean(c.Spec.DataRoot), filepath.Clean(old.Spec.DataRoot))
	var added, removed []string
	for _, n := range c.Spec.Nodes {
		if _, ok := old.Spec.Node(n.ID); !ok {
			added = append(added, n.ID)
		}
	}
	for _, n := range old.Spec.Nodes {
		if _, ok := c.Spec.Node(n.ID); !ok {
			removed = append(removed, n.ID)
		}
	}
	if len(added) > 0 {
		errs.add("spec.nodes", "adds %s; adding nodes to a cluster is not supported yet", strings.Join(added, ", "))
	}
	if len(removed) > 0 {
		errs.add("spec.nodes", "leaves out %s; removing nodes from a cluster is not supported yet (stopped: true stops one)", strings.Join(removed, ", "))
	}
	return errs
}

// ValidateAmong returns why the cluster cannot live beside the others: a port
// or a data folder that one of them uses, named. A cluster of the same name
// among the others is skipped.
func (c *Cluster) ValidateAmong(others []Cluster) FieldErrors {
	var errs FieldErrors
	taken := map[socket]string{}
	folders := map[string]string{}
	for i := range others {
		other := &others[i]
		if other.Name == c.Name {
			continue
		}
		for j := range other.Spec.Nodes {
			n := &other.Spec.Nodes[j]
			for _, p := range n.ports() {
				taken[n.socket(p)] = fmt.Sprintf("the %s of node %s of cluster %s", p.name, n.ID, other.Name)
			}
			folders[other.Spec.folder(n)] = fmt.Sprintf("node %s of cluster %s", n.ID, other.Name)
		}
	}
	for i := range c.Spec.Nodes {
		n := &c.Spec.Nodes[i]
		for _, p := range n.ports() {
			if owner, ok := taken[n.socket(p)]; ok {
				field, says := portField(i, n, p)
				errs.add(field, "%s on %s is already %s", says, n.Host, owner)
				break
			}
		}
	}
	for i := range c.Spec.Nodes {
		folder := c.Spec.folder(&c.Spec.Nodes[i])
		for _, used := range slices.Sorted(maps.Keys(folders)) {
			if inside(folder, used) || inside(used, folder) {
				errs.add("spec.dataRoot", "the folder %s is used by %s; write another data root", used, folders[used])
				return errs
			}
		}
	}
	return errs
}

// folder returns the data folder of a node.
func (s *ClusterSpec) folder(n *NodeSpec) string { return filepath.Join(s.DataRoot, n.ID) }

// inside reports whether path is folder or lies in it.
func inside(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, strings.TrimSuffix(folder, "/")+"/")
}
