package controller

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/wiber/wiber/controller/proc"
	"github.com/wiber/wiber/manifests/v1alpha1"
	"github.com/wiber/wiber/timesvc"
)

// The defaults of Options.
const (
	DefaultListen = "127.0.0.1:8080"
	DefaultState  = ".data/controller"
)

// Options are what a controller needs. The zero value means the defaults.
type Options struct {
	// Listen is the address of the HTTP API; DefaultListen unless given.
	Listen string
	// AllowedHosts are Host header values that are accepted besides loopback
	// names and the listen address.
	AllowedHosts []string
	// UIDir is a folder with the files of the web page, for those who change it;
	// the page in the program unless given.
	UIDir string
	// State is the folder of the controller's own state; DefaultState unless
	// given. One controller at a time may use it.
	State string
	// Executable is the program that nodes are started with; that of this process
	// unless given. It is copied into the state folder first, because go run
	// deletes its binary.
	Executable string
	// DefaultCluster is what /cluster/start applies when nothing was applied yet;
	// without it such a request is refused. Its data root may be relative to this
	// process's working folder.
	DefaultCluster *v1alpha1.Cluster
	// Version is the program's version, for logs.
	Version string
	// Clock is the machine's unless given.
	Clock timesvc.Clock
	// Logger gets state changes; none unless given.
	Logger *slog.Logger
	// Processes are the machine's unless given. Run closes them.
	Processes proc.Processes
	// Listening, if given, is called once with the address that the API listens
	// on, when it answers.
	Listening func(addr string)

	// nodes asks nodes how they are; over HTTP unless given.
	nodes nodeClient
}

// withDefaults returns the options with all defaults filled in.
func (o Options) withDefaults() (Options, error) {
	if o.Listen == "" {
		o.Listen = DefaultListen
	}
	if o.State == "" {
		o.State = DefaultState
	}
	state, err := filepath.Abs(o.State)
	if err != nil {
		return o, fmt.Errorf("controller: make the state folder's path absolute: %w", err)
	}
	o.State = state
	if o.Executable == "" {
		if o.Executable, err = os.Executable(); err != nil {
			return o, fmt.Errorf("controller: find this program's file: %w", err)
		}
	}
	if o.Clock == nil {
		o.Clock = timesvc.NewSystem(timesvc.Skew{})
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Processes == nil {
		o.Processes = proc.NewOS()
	}
	if o.nodes == nil {
		o.nodes = newHTTPNodes()
	}
	if o.DefaultCluster != nil {
		o.DefaultCluster = o.DefaultCluster.Clone()
		if errs := o.DefaultCluster.Validate(); len(errs) > 0 {
			return o, errors.New("controller: the default cluster: " + errs.Error())
		}
	}
	return o, nil
}
