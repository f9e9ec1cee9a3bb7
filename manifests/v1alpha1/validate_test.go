package v1alpha1

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

// demo returns the cluster of interface.md section 2, valid and complete, after
// change.
func demo(change func(*Cluster)) *Cluster {
	c := NewCluster()
	c.Name = "demo"
	c.Spec.Nodes = []NodeSpec{
		{ID: "n1", Host: "127.0.0.1", Port: 9101},
		{ID: "n2", Host: "127.0.0.1", Port: 9102},
		{ID: "n3", Host: "127.0.0.1", Port: 9103},
	}
	if change != nil {
		change(c)
	}
	c.Default()
	return c
}

func TestReplicasBecomeNodes(t *testing.T) {
	c := NewCluster()
	c.Name = "demo"
	c.Spec.Replicas = 3
	c.Default()
	if got, want := c.Spec, demo(nil).Spec; len(got.Nodes) != 3 || got.Replicas != 0 || got.ReplicationFactor != 3 ||
		got.Nodes[0].Host != want.Nodes[0].Host || got.Nodes[2].Port != 9103 || got.Nodes[1].PeerPort != 9202 || got.Nodes[1].HTTPPort != 9302 || got.Nodes[1].KafkaPort != 9402 {
		t.Errorf("got %+v", got)
	}
	before := c.Clone()
	c.Default()
	if !reflect.DeepEqual(before, c) {
		t.Errorf("a second Default made of %+v %+v", before.Spec, c.Spec)
	}
	if err := c.Validate().Err(); err != nil {
		t.Error(err)
	}
}

func TestTheFactorIsAtMostThreeUnlessGiven(t *testing.T) {
	for replicas, want := range map[int]int{1: 1, 2: 2, 3: 3, 5: 3} {
		c := NewCluster()
		c.Spec.Replicas = replicas
		c.Default()
		if c.Spec.ReplicationFactor != want {
			t.Errorf("%d nodes: got %d", replicas, c.Spec.ReplicationFactor)
		}
	}
}

func TestAWrongClusterIsToldWhatToWrite(t *testing.T) {
	five := func(c *Cluster) { c.Spec.Nodes = nil; c.Spec.Replicas = 5 }
	for _, tc := range []struct {
		name   string
		change func(*Cluster)
		want   []string // beginnings of the errors; none: valid
	}{
		{"the example is right", nil, nil},
		{"five nodes with their factor", func(c *Cluster) { five(c); c.Spec.ReplicationFactor = 5 }, nil},
		{"five nodes without it", five, []string{"spec.replicationFactor: is 3 (min(3, nodes) if left out) and less than the 5 nodes, which is not supported yet; write replicationFactor: 5"}},
		{"a factor above the nodes", func(c *Cluster) { c.Spec.ReplicationFactor = 4 }, []string{"spec.replicationFactor: is 4; with 3 nodes the range is 1 to 3"}},
		{"no name", func(c *Cluster) { c.Name = "" }, []string{`metadata.name: "" is not the name of a cluster`}},
		{"a name that leaves its folder", func(c *Cluster) { c.Name = "../x" }, []string{"metadata.name:"}},
		{"a namespace", func(c *Cluster) { c.Namespace = "x" }, []string{"metadata.namespace:"}},
		{"no nodes", func(c *Cluster) { c.Spec.Nodes = nil }, []string{"spec.nodes: is empty; write at least one node, or replicas: 3"}},
		{"nodes and replicas", func(c *Cluster) { c.Spec.Replicas = 3 }, []string{"spec.replicas: is given together with spec.nodes"}},
		{"a billion replicas", func(c *Cluster) { c.Spec.Nodes = nil; c.Spec.Replicas = 1e9 }, []string{"spec.replicas: is 1000000000; the range is 1 to 99"}},
		{"a bad id", func(c *Cluster) { c.Spec.Nodes[1].ID = "N2" }, []string{`spec.nodes[1].id: "N2" is not a node's id`}},
		{"the same id twice", func(c *Cluster) { c.Spec.Nodes[2].ID = "n1" }, []string{"spec.nodes[2].id: n1 is already the id of spec.nodes[0]"}},
		{"no host", func(c *Cluster) { c.Spec.Nodes[0].Host = "" }, []string{"spec.nodes[0].host: is empty"}},
		{"every address", func(c *Cluster) { c.Spec.Nodes[0].Host = "0.0.0.0" }, []string{"spec.nodes[0].host: is 0.0.0.0; write the one address"}},
		{"a host with a port", func(c *Cluster) { c.Spec.Nodes[0].Host = "a:1" }, []string{`spec.nodes[0].host: "a:1" is neither`}},
		{"a broken address", func(c *Cluster) { c.Spec.Nodes[0].Host = "127.0.0.256" }, []string{"spec.nodes[0].host:"}},
		{"an IPv6 address and a name", func(c *Cluster) { c.Spec.Nodes[0].Host = "::1"; c.Spec.Nodes[1].Host = "db-1.example.com" }, nil},
		{"no port", func(c *Cluster) { c.Spec.Nodes[0].Port = 0 }, []string{"spec.nodes[0].port: is 0; a port is 1 to 65535"}},
		{"a high port", func(c *Cluster) { c.Spec.Nodes[0].Port = 65400 }, []string{"spec.nodes[0].port: is 65400, so httpPort would be 65600 (port+200), over 65535; write a lower port, or httpPort",
			"spec.nodes[0].port: is 65400, so kafkaPort"}},
		{"a high peer port", func(c *Cluster) { c.Spec.Nodes[0].PeerPort = 70000 }, []string{"spec.nodes[0].peerPort: is 70000; a port is 1 to 65535"}},
		{"the same port twice", func(c *Cluster) { c.Spec.Nodes[1].Port = 9101 }, []string{"spec.nodes[1].port: 9101 on 127.0.0.1 is already the port of spec.nodes[0]"}},
		{"a port that another node derives", func(c *Cluster) { c.Spec.Nodes[1].Port = 9201 }, []string{"spec.nodes[1].port: 9201 on 127.0.0.1 is already the peerPort of spec.nodes[0] (port+100)"}},
		{"derived ports that meet", func(c *Cluster) { c.Spec.Nodes[1].Port = 9000; c.Spec.Nodes[0].HTTPPort = 9300 },
			[]string{"spec.nodes[1].port: is 9000, so kafkaPort is 9300 (port+300), which on 127.0.0.1 is already the httpPort of spec.nodes[0]"}},
		{"a node's own ports that meet", func(c *Cluster) { c.Spec.Nodes[0].HTTPPort = 9101 }, []string{"spec.nodes[0].httpPort: 9101 on 127.0.0.1 is already the port of spec.nodes[0]"}},
		{"the same port by another name", func(c *Cluster) { c.Spec.Nodes[1].Host = "LocalHost"; c.Spec.Nodes[1].Port = 9101 }, []string{"spec.nodes[1].port: 9101 on LocalHost is already"}},
		{"the same port on another address", func(c *Cluster) { c.Spec.Nodes[1].Host = "127.0.0.2"; c.Spec.Nodes[1].Port = 9101 }, nil},
		{"decommission", func(c *Cluster) { c.Spec.Nodes[2].Decommission = true }, []string{"spec.nodes[2].decommission: is true; other values than false are not supported yet"}},
		{"labels are carried", func(c *Cluster) { c.Spec.Nodes[2].Labels = map[string]string{"example.com/zone": "a-1", "x": ""} }, nil},
		{"a bad label", func(c *Cluster) { c.Spec.Nodes[2].Labels = map[string]string{"zo ne": "a b"} }, []string{`spec.nodes[2].labels: "zo ne"`, `spec.nodes[2].labels.zo ne: "a b"`}},
		{"a bad annotation", func(c *Cluster) { c.Annotations = map[string]string{"/": strings.Repeat("x", 70000)} }, []string{"metadata.annotations:", "metadata.annotations: hold 70001 bytes"}},
		{"no shards", func(c *Cluster) { c.Spec.Shards = 0 }, []string{"spec.shards: is 0; the range is 1 to 1024"}},
		{"no data root", func(c *Cluster) { c.Spec.DataRoot = "" }, []string{"spec.dataRoot:"}},
		{"a bad policy", func(c *Cluster) { c.Spec.RestartPolicy = "always" }, []string{`spec.restartPolicy: is "always"; write Always, OnFailure, Never`}},
		{"back-off the wrong way round", func(c *Cluster) { c.Spec.Backoff.Initial = Duration(2 * time.Minute) }, []string{"spec.backoff.max: is 1m, less than backoff.initial, 2m"}},
		{"no back-off", func(c *Cluster) { c.Spec.Backoff = Backoff{} }, []string{"spec.backoff.initial: is 0s; the range is 10ms to 1h", "spec.backoff.max:"}},
		{"no grace", func(c *Cluster) { c.Spec.TerminationGracePeriod = 0 }, nil},
		{"a hasty election", func(c *Cluster) { c.Spec.ElectionTimeout = Duration(time.Millisecond) }, []string{"spec.electionTimeout: is 1ms; the range is 100ms to 1m"}},
		{"what is not built", func(c *Cluster) { c.Spec.HotLog = 2 * GiB; c.Spec.Memory = GiB; c.Spec.FaultInjection = true },
			[]string{"spec.hotLog: is 2GiB; other values than 1GiB are not supported yet", "spec.memory: is 1GiB; other values than 512MiB are not supported yet", "spec.faultInjection: is true; other values than false are not supported yet"}},
		{"no ids", func(c *Cluster) { c.Spec.DedupIDs = 0 }, []string{"spec.dedupIds: is 0;"}},
	} {
		t.Run(tc.name, func(t *testing.T) { expect(t, demo(tc.change).Validate(), tc.want) })
	}
}

func expect(t *testing.T, errs FieldErrors, want []string) {
	t.Helper()
	for i := range max(len(errs), len(want)) {
		switch {
		case i >= len(errs):
			t.Errorf("no error, want %q", want[i])
		case i >= len(want):
			t.Errorf("unexpected error %q", errs[i].Error())
		case !strings.HasPrefix(errs[i].Error(), want[i]):
			t.Errorf("got  %q\nwant %q…", errs[i].Error(), want[i])
		}
	}
	if (errs.Err() != nil) != (len(want) > 0) {
		t.Errorf("Err() is %v", errs.Err())
	}
}

func TestSomeFieldsOfAClusterAreFixed(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*Cluster)
		want   []string
	}{
		{"the same again", nil, nil},
		{"other ports, hosts and settings", func(c *Cluster) {
			c.Spec.Nodes[0].Port = 9301
			c.Spec.Nodes[1].Host = "127.0.0.2"
			c.Spec.Nodes[2].Stopped = true
			c.Spec.ElectionTimeout = Duration(2 * time.Second)
			c.Spec.AutoCreateTopics = false
			c.Spec.DataRoot = ".data/"
		}, nil},
		{"other shards", func(c *Cluster) { c.Spec.Shards = 8 }, []string{"spec.shards: is fixed once applied: it is 4 and cannot become 8"}},
		{"another data root", func(c *Cluster) { c.Spec.DataRoot = "/var/wiber" }, []string{"spec.dataRoot: is fixed once applied: it is .data and cannot become /var/wiber"}},
		{"a fourth node", func(c *Cluster) {
			c.Spec.Nodes = append(c.Spec.Nodes, NodeSpec{ID: "n4", Host: "127.0.0.1", Port: 9104})
		}, []string{"spec.nodes: adds n4; adding nodes to a cluster is not supported yet"}},
		{"one less", func(c *Cluster) { c.Spec.Nodes = c.Spec.Nodes[:2] }, []string{"spec.nodes: leaves out n3; removing nodes"}},
		{"another id", func(c *Cluster) { c.Spec.Nodes[0].ID = "a" }, []string{"spec.nodes: adds a;", "spec.nodes: leaves out n1;"}},
	} {
		t.Run(tc.name, func(t *testing.T) { expect(t, demo(tc.change).ValidateUpdate(demo(nil)), tc.want) })
	}
}

func TestAStoredClusterHasAnAbsoluteDataRoot(t *testing.T) {
	expect(t, demo(nil).ValidateStored(), []string{"spec.dataRoot: .data is relative"})
	expect(t, demo(func(c *Cluster) { c.Spec.DataRoot = "/srv/wiber" }).ValidateStored(), nil)
}

func TestClustersDoNotShareAPortOrAFolder(t *testing.T) {
	other := func(change func(*Cluster)) *Cluster {
		return demo(func(c *Cluster) {
			c.Name = "second"
			for i := range c.Spec.Nodes {
				c.Spec.Nodes[i].Host = "127.0.0.2"
			}
			c.Spec.DataRoot = "/srv/second"
			if change != nil {
				change(c)
			}
		})
	}
	first := *demo(func(c *Cluster) { c.Spec.DataRoot = "/srv/first" })
	expect(t, other(nil).ValidateAmong([]Cluster{first}), nil)
	expect(t, other(func(c *Cluster) { c.Spec.Nodes[0] = NodeSpec{ID: "n1", Host: "127.0.0.1", Port: 9002} }).ValidateAmong([]Cluster{first}),
		[]string{"spec.nodes[0].port: is 9002, so peerPort is 9102 (port+100), which on 127.0.0.1 is already the port of node n2 of cluster demo"})
	expect(t, other(func(c *Cluster) { c.Spec.DataRoot = "/srv/first/n2" }).ValidateAmong([]Cluster{first}),
		[]string{"spec.dataRoot: the folder /srv/first/n2 is used by node n2 of cluster demo; write another data root"})
	expect(t, first.ValidateAmong([]Cluster{first}), nil)
}

func TestAWrongTopicIsToldWhatToWrite(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*Topic)
		want   []string
	}{
		{"the defaults are right", func(*Topic) {}, nil},
		{"everything else that is built", func(x *Topic) {
			x.Namespace = "demo"
			x.Spec = TopicSpec{Partitions: 16, DedupWindow: 0, MaxMessageBytes: 100, DeletionPolicy: DeletionDelete}
		}, nil},
		{"a bad name", func(x *Topic) { x.Name = "a/b" }, []string{`metadata.name: "a/b" is not a topic's name`}},
		{"a long name", func(x *Topic) { x.Name = strings.Repeat("x", 250) }, []string{"metadata.name:"}},
		{"a bad namespace", func(x *Topic) { x.Namespace = "De mo" }, []string{"metadata.namespace:"}},
		{"no partitions", func(x *Topic) { x.Spec.Partitions = 0 }, []string{"spec.partitions: is 0; the range is 1 to 10000"}},
		{"retention", func(x *Topic) { x.Spec.Retention = Retention{Age: Duration(time.Hour), Bytes: 1, Messages: 2} }, []string{
			"spec.retention.age: is 1h; other values than 0s are not supported yet", "spec.retention.bytes: is 1; other", "spec.retention.messages: is 2; other"}},
		{"an endless window", func(x *Topic) { x.Spec.DedupWindow = MaxDedupWindow + 1 }, []string{"spec.dedupWindow:"}},
		{"huge messages", func(x *Topic) { x.Spec.MaxMessageBytes = 1 << 30 }, []string{"spec.maxMessageBytes: is 1073741824; the range is 1 to 16777216"}},
		{"a bad policy", func(x *Topic) { x.Spec.DeletionPolicy = "" }, []string{`spec.deletionPolicy: is ""; write Retain, Delete`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			topic := NewTopic()
			topic.Name = "orders"
			tc.change(topic)
			expect(t, topic.Validate(), tc.want)
		})
	}
}

func TestPartitionsOnlyGrow(t *testing.T) {
	old, topic := NewTopic(), NewTopic()
	old.Spec.Partitions, topic.Spec.Partitions = 4, 8
	expect(t, topic.ValidateUpdate(old), nil)
	expect(t, old.ValidateUpdate(topic), []string{"spec.partitions: is 8 and can only grow, not become 4"})
}
