// Package v1alpha1 holds the types of the wiber.dev/v1alpha1 API: what a user
// writes in a manifest and what the controller answers over HTTP.
//
// A kind has a spec (what is wanted), a status (what is seen) and metadata with
// the JSON names and the meaning of Kubernetes' metav1. The package also says
// what a spec means when parts of it are left out (defaulting) and whether it
// makes sense (validation). Both are pure: they change or read the value they
// are given and nothing else.
//
// A new object is read in three steps:
//
//	c := v1alpha1.NewCluster()   // holds every default that depends on nothing
//	// decode the document over it: a field that is absent keeps its default
//	c.Default()                  // fills in what depends on other fields
//	errs := c.Validate()         // field paths and messages, or nil
//
// Package manifests does exactly that for YAML and JSON; use it for everything a
// person wrote. Objects that come back from the controller are complete and are
// read with encoding/json.
//
// Not here: YAML, files, networks (manifests, controller/apiserver). Kinds and
// fields that are not built yet do not exist, or are refused by Validate unless
// they hold their default. Start reading at ClusterSpec.
package v1alpha1
