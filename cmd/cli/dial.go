package cli

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wiber/wiber/config"
	"github.com/wiber/wiber/manifests/v1alpha1"
	"github.com/wiber/wiber/topics/client"
	"github.com/wiber/wiber/topics/wire"
)

// helloTimeout is how long a node may take to be connected to and to greet.
const helloTimeout = 3 * time.Second

// unanswered is the largest number of messages on their way. Of this many the
// cluster remembers the receipts for one producer, so that whatever is sent
// again after a failure still gets its offset.
const unanswered = 1000

// nodesFlag adds the flag of the commands that talk to client ports.
func nodesFlag(cmd *cobra.Command) {
	cmd.Flags().String(config.Nodes, "", "client `addresses`, host:port,…, to use instead of asking the controller")
}

// dial makes a client of the cluster: of the addresses in --nodes, else of
// those the controller's node list names. With node it talks to that node only.
func (a *app) dial(ctx context.Context, node string) (*client.Client, error) {
	addresses, err := a.addresses(ctx, node)
	if err != nil {
		return nil, err
	}
	return client.New(client.Options{Nodes: addresses, Clock: a.clock, WindowMessages: unanswered})
}

func (a *app) addresses(ctx context.Context, node string) ([]string, error) {
	if len(a.settings.Nodes) == 0 {
		return a.listedAddresses(ctx, node)
	}
	if node == "" {
		return a.settings.Nodes, nil
	}
	var errs []error
	for _, address := range a.settings.Nodes {
		hello, err := greet(ctx, address)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if hello.Node == node {
			return []string{address}, nil
		}
		errs = append(errs, fmt.Errorf("%s is node %s", address, hello.Node))
	}
	return nil, fmt.Errorf("no address of --nodes is node %s: %w", node, errors.Join(errs...))
}

// listedAddresses asks the controller.
func (a *app) listedAddresses(ctx context.Context, node string) ([]string, error) {
	var nodes v1alpha1.NodeList
	if err := a.controller().get(ctx, apiPath+"nodes", nil, &nodes); err != nil {
		var unreachable *unreachableError
		if errors.As(err, &unreachable) {
			return nil, fmt.Errorf("%w\nWhile the controller is down, name the nodes: --nodes 127.0.0.1:9101,127.0.0.1:9102,127.0.0.1:9103", err)
		}
		return nil, err
	}
	var clusters []string
	for i := range nodes.Items {
		clusters = append(clusters, nodes.Items[i].Namespace)
	}
	slices.Sort(clusters)
	if clusters = slices.Compact(clusters); len(clusters) > 1 {
		return nil, fmt.Errorf("there are several clusters: choose one with --cluster %s", strings.Join(clusters, "|"))
	}
	if len(nodes.Items) == 0 {
		return nil, errors.New(`there are no nodes: declare a cluster with "wiberctl apply -f FILE" first`)
	}
	addresses := nodeAddresses(nodes.Items, node)
	if len(addresses) == 0 {
		return nil, &serverError{404, string(v1alpha1.ReasonNotFound), fmt.Sprintf("nodes %q not found", node)}
	}
	return addresses, nil
}

// nodeAddresses are the client ports of nodes, or of the named one. Nodes that run
// come first, in a random order, so that clients spread over them.
func nodeAddresses(nodes []v1alpha1.Node, name string) []string {
	nodes = slices.Clone(nodes)
	rand.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
	runs := func(n *v1alpha1.Node) int {
		if n.Status.Phase == v1alpha1.NodeRunning {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(nodes, func(x, y v1alpha1.Node) int { return runs(&x) - runs(&y) })
	var addresses []string
	for i := range nodes {
		if n := &nodes[i]; name == "" || n.Name == name {
			addresses = append(addresses, net.JoinHostPort(n.Spec.Host, strconv.Itoa(n.Spec.Port)))
		}
	}
	return addresses
}

// greet connects to an address and reads who answers there.
func greet(ctx context.Context, address string) (wire.Hello, error) {
	limited, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(limited, "tcp", address)
	if err != nil {
		return wire.Hello{}, fmt.Errorf("%s: %w", address, rootCause(err))
	}
	defer conn.Close()
	stop := context.AfterFunc(limited, func() { conn.Close() })
	defer stop()
	var reply wire.Reply
	if err := wire.NewReplyReader(conn, 0).Next(&reply); err != nil {
		return wire.Hello{}, fmt.Errorf("%s does not greet as a node: %w", address, err)
	}
	if reply.Kind != wire.KindHello {
		return wire.Hello{}, fmt.Errorf("%s does not greet as a node", address)
	}
	return reply.Hello, nil
}
