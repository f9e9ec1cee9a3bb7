package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/wiber/wiber/manifests/v1alpha1"
)

// resource is a kind of object that the controller serves.
type resource struct {
	plural   string // in paths and messages: nodes
	singular string // in names: node/n2
	kind     string // in objects: Node
}

// resourceOf finds a resource by any of its names, in any case.
func resourceOf(name string) (resource, error) {
	kind, ok := v1alpha1.KindOf(name)
	if word := strings.ToLower(name); word == "event" || word == "events" {
		kind, ok = v1alpha1.KindEvent, true // made by the controller: no manifest says this word
	}
	if !ok {
		return resource{}, fmt.Errorf("there is no resource type %q: it is one of %s (an object is KIND/NAME, as in node/n1)", name, strings.Join(resourceNames, ", "))
	}
	return resource{v1alpha1.Resource(kind), strings.ToLower(kind), kind}, nil
}

// resourceNames are the types of objects, as messages and completion name them.
var resourceNames = []string{"clusters", "nodes", "topics", "events"}

// target is a resource, or some objects of it by name.
type target struct {
	resource resource
	names    []string // none: all
}

// parseTargets reads the arguments of a command that takes objects: KIND,
// KIND NAME…, or KIND/NAME….
func parseTargets(args []string) ([]target, error) {
	if len(args) == 0 {
		return nil, errors.New("say which objects: KIND, KIND NAME or KIND/NAME")
	}
	if !strings.Contains(args[0], "/") {
		var targets []target
		kinds := strings.Split(args[0], ",")
		if strings.EqualFold(args[0], "all") {
			kinds = []string{v1alpha1.KindCluster, v1alpha1.KindNode, v1alpha1.KindTopic}
		}
		for _, name := range kinds {
			r, err := resourceOf(name)
			if err != nil {
				return nil, err
			}
			targets = append(targets, target{r, args[1:]})
		}
		for _, name := range args[1:] {
			if strings.Contains(name, "/") {
				return nil, fmt.Errorf("either KIND NAME or KIND/NAME, not both: %q after %q", name, args[0])
			}
		}
		return targets, nil
	}
	var targets []target
	for _, arg := range args {
		kind, name, ok := strings.Cut(arg, "/")
		if !ok || name == "" || strings.Contains(name, "/") {
			return nil, fmt.Errorf("%q is not of the form KIND/NAME", arg)
		}
		r, err := resourceOf(kind)
		if err != nil {
			return nil, err
		}
		if n := len(targets); n > 0 && targets[n-1].resource == r {
			targets[n-1].names = append(targets[n-1].names, name)
			continue
		}
		targets = append(targets, target{r, []string{name}})
	}
	return targets, nil
}

// parseNode reads the arguments of a command that takes one node: n2, node/n2,
// node n2 or nodes n2.
func parseNode(args []string) (string, error) {
	switch len(args) {
	case 1:
		kind, name, ok := strings.Cut(args[0], "/")
		if !ok {
			return args[0], nil
		}
		return parseNode([]string{kind, name})
	case 2:
		r, err := resourceOf(args[0])
		if err != nil {
			return "", fmt.Errorf("one node at a time: NODE, node/NODE or node NODE, not %q", strings.Join(args, " "))
		}
		if r.kind != "Node" {
			return "", fmt.Errorf("this works on a node, not on a %s", r.singular)
		}
		if args[1] == "" || strings.Contains(args[1], "/") {
			return "", fmt.Errorf("%q is no name of a node", args[1])
		}
		return args[1], nil
	}
	return "", errors.New("say which node: NODE, node/NODE or node NODE")
}
