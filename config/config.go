// Package config gathers the settings of one process from where people put
// them: flags, then the environment (WIBER_SERVER for --server), then the
// settings file ($WIBER_CONFIG, else wiber/config.yaml in the user's
// configuration folder), then defaults. The first that says something wins.
//
// A wrong setting is an error that names where it came from: the flag, the
// variable, or the file and its key. An unknown key of the settings file is
// wrong; an unknown variable is not ours.
//
// Not here: what a cluster looks like (manifests). This package never reads a
// Cluster; it only carries the text of the built-in one. It is the only importer
// of viper. Start reading at Load.
package config

import (
	_ "embed" // for cluster.yaml
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/viper"
)

//go:embed cluster.yaml
var clusterYAML []byte

// ClusterFile is the name of the built-in cluster file, for messages.
const ClusterFile = "config/cluster.yaml"

// ClusterYAML returns the text of the built-in demo cluster. The caller may
// keep and change it.
func ClusterYAML() []byte { return slices.Clone(clusterYAML) }

// The names of the settings: the flag is --name, the variable WIBER_NAME with _
// for -, the key in the settings file is the name itself.
const (
	Server       = "server"
	Cluster      = "cluster"
	Output       = "output"
	NoHeaders    = "no-headers"
	Listen       = "listen"
	State        = "state"
	AllowedHosts = "allowed-hosts"
	UIDir        = "ui-dir"
	DataRoot     = "data-root"
	Nodes        = "nodes"
)

var names = []string{Server, Cluster, Output, NoHeaders, Listen, State, AllowedHosts, UIDir, DataRoot, Nodes}

// The defaults that do not depend on the environment.
const (
	defaultHost  = "127.0.0.1"
	defaultPort  = "8080"
	defaultState = ".data/controller"
)

// Config is a process's settings. Its values are checked.
type Config struct {
	// Server is the controller's URL for clients, without a final slash;
	// http://127.0.0.1:8080 unless given, with the port of GATEWAY_PORT if set.
	Server string
	// Cluster is the cluster that commands are about; empty is the only one.
	Cluster string
	// Output is the output format of commands, NoHeaders leaves out the header
	// of tables.
	Output    string
	NoHeaders bool
	// Listen is the address the controller listens on; 127.0.0.1:8080 unless
	// given, with the port of GATEWAY_PORT if set.
	Listen string
	// State is the controller's folder; .data/controller unless given.
	State string
	// AllowedHosts are values of the Host header that the controller accepts
	// beside loopback names and the address it listens on.
	AllowedHosts []string
	// UIDir is a folder whose files the controller serves as its page; empty is
	// the page in the program.
	UIDir string
	// DataRoot is the folder of the nodes' folders for a node that is started
	// by hand; empty is what its cluster says.
	DataRoot string
	// Nodes are the client addresses, host:port, that commands talk to; empty
	// is what the controller's list names.
	Nodes []string
	// File is the settings file that was read, or empty.
	File string
	// TestClock is the variable WIBER_TEST_CLOCK, with which tests shift and
	// drift a node's clock. It can only be given there.
	TestClock string
	// NoColor is set by the variable NO_COLOR, if it is not empty.
	NoColor bool

	from map[string]string
}

// Sources is where Load looks.
type Sources struct {
	// Flags holds the flags that were given, by name and as text. Other names
	// than those of settings are ignored.
	Flags map[string]string
	// LookupEnv reads the environment; nil is os.LookupEnv.
	LookupEnv func(string) (string, bool)
	// UserConfigDir returns the user's configuration folder; nil is
	// os.UserConfigDir.
	UserConfigDir func() (string, error)
}

// Load gathers the settings. Its error says where the wrong one came from.
func Load(s Sources) (Config, error) {
	if s.LookupEnv == nil {
		s.LookupEnv = os.LookupEnv
	}
	if s.UserConfigDir == nil {
		s.UserConfigDir = os.UserConfigDir
	}
	l := &loader{Sources: s, v: viper.New(), from: map[string]string{}}
	file, err := l.readFile()
	if err != nil {
		return Config{}, err
	}
	if err := l.defaults(); err != nil {
		return Config{}, err
	}
	for _, name := range names {
		variable := variableOf(name)
		if value, ok := s.LookupEnv(variable); ok && value != "" {
			l.set(name, value, variable)
		}
		if value, ok := s.Flags[name]; ok {
			l.set(name, value, "--"+name)
		}
	}
	return l.config(file)
}

// From says where a setting came from, for messages: "--server", "WIBER_SERVER",
// the settings file, "GATEWAY_PORT" or "default".
func (c Config) From(name string) string { return c.from[name] }

// ServerIsDefault reports whether nobody named the controller's address, so that
// a command may start a controller there. GATEWAY_PORT only moves the default.
func (c Config) ServerIsDefault() bool {
	return c.from[Server] == fromDefault || c.from[Server] == gatewayPort
}

const (
	fromDefault  = "default"
	gatewayPort  = "GATEWAY_PORT"
	fileVariable = "WIBER_CONFIG"
)

// variableOf returns the environment variable of a setting.
func variableOf(name string) string {
	return "WIBER_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// loader gathers one Config.
type loader struct {
	Sources
	v    *viper.Viper
	from map[string]string
}

func (l *loader) set(name string, value any, from string) {
	l.v.Set(name, value)
	l.from[name] = from
}

// readFile reads the settings file, if there is one, and returns its path. Only
// a file that $WIBER_CONFIG names must exist.
func (l *loader) readFile() (string, error) {
	path, named := l.LookupEnv(fileVariable)
	if path == "" {
		named = false
		dir, err := l.UserConfigDir()
		if err != nil {
			return "", nil // no home, no settings file
		}
		path = filepath.Join(dir, "wiber", "config.yaml")
	}
	if _, err := os.Stat(path); err != nil {
		if !named && errors.Is(err, fs.ErrNotExist) {
			return "", nil
		}
		if named {
			return "", fmt.Errorf("%s: %w", fileVariable, err)
		}
		return "", fmt.Errorf("settings file: %w", err)
	}
	l.v.SetConfigFile(path)
	l.v.SetConfigType("yaml")
	if err := l.v.ReadInConfig(); err != nil {
		return "", fmt.Errorf("settings file %s: %w", path, err)
	}
	for _, key := range slices.Sorted(slices.Values(l.v.AllKeys())) {
		if !slices.Contains(names, key) {
			return "", fmt.Errorf("settings file %s: %s: unknown key; the keys are %s", path, key, strings.Join(names, ", "))
		}
		l.from[key] = path
	}
	return path, nil
}

// defaults sets the values that hold where nobody says anything.
func (l *loader) defaults() error {
	port, from := defaultPort, fromDefault
	if value, ok := l.LookupEnv(gatewayPort); ok && value != "" {
		if !validPort(value) {
			return fmt.Errorf("%s: %q is not a port from 1 to 65535", gatewayPort, value)
		}
		port, from = value, gatewayPort
	}
	for name, value := range map[string]string{
		Server: "http://" + net.JoinHostPort(defaultHost, port),
		Listen: net.JoinHostPort(defaultHost, port),
		State:  defaultState,
	} {
		l.v.SetDefault(name, value)
		if l.from[name] == "" {
			l.from[name] = from
		}
	}
	return nil
}

// config checks every setting and returns them together.
func (l *loader) config(file string) (Config, error) {
	c := Config{File: file, from: l.from}
	c.TestClock, _ = l.LookupEnv("WIBER_TEST_CLOCK")
	if value, ok := l.LookupEnv("NO_COLOR"); ok && value != "" {
		c.NoColor = true
	}
	var errs []error
	text := func(name string) string {
		s, err := l.text(name)
		errs = append(errs, err)
		return s
	}
	list := func(name string, valid func(string) error) []string {
		items, err := l.list(name, valid)
		errs = append(errs, err)
		return items
	}
	c.Server = strings.TrimRight(text(Server), "/")
	c.Cluster = text(Cluster)
	c.Output = text(Output)
	c.Listen = text(Listen)
	c.State = text(State)
	c.UIDir = text(UIDir)
	c.DataRoot = text(DataRoot)
	c.AllowedHosts = list(AllowedHosts, nil)
	c.Nodes = list(Nodes, validAddress)
	noHeaders, err := l.truth(NoHeaders)
	c.NoHeaders = noHeaders
	errs = append(errs, err, l.wrong(Server, validURL(c.Server)), l.wrong(Listen, validAddress(c.Listen)))
	if c.State == "" {
		errs = append(errs, l.wrong(State, errors.New("is empty; name a folder")))
	}
	if err := errors.Join(errs...); err != nil {
		return Config{}, err
	}
	return c, nil
}

// wrong puts the place a setting came from before its error.
func (l *loader) wrong(name string, err error) error {
	if err == nil {
		return nil
	}
	switch from := l.from[name]; {
	case strings.HasPrefix(from, "--"), from == variableOf(name):
		return fmt.Errorf("%s: %w", from, err)
	default:
		return fmt.Errorf("settings file %s: %s: %w", from, name, err)
	}
}

func (l *loader) text(name string) (string, error) {
	switch v := l.v.Get(name).(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	default:
		return "", l.wrong(name, fmt.Errorf("%v is not a string", v))
	}
}

func (l *loader) truth(name string) (bool, error) {
	switch v := l.v.Get(name).(type) {
	case nil:
		return false, nil
	case bool:
		return v, nil
	case string:
		b, err := strconv.ParseBool(v)
		if err != nil {
			err = fmt.Errorf("%q is neither true nor false", v)
		}
		return b, l.wrong(name, err)
	default:
		return false, l.wrong(name, fmt.Errorf("%v is neither true nor false", v))
	}
}

// list reads names separated by commas, or a YAML list of them.
func (l *loader) list(name string, valid func(string) error) ([]string, error) {
	var items []string
	switch v := l.v.Get(name).(type) {
	case nil:
		return nil, nil
	case string:
		if v != "" {
			items = strings.Split(v, ",")
		}
	case []any:
		for _, item := range v {
			s, ok := item.(string)
			if !ok {
				return nil, l.wrong(name, fmt.Errorf("%v is not a string", item))
			}
			items = append(items, s)
		}
	default:
		return nil, l.wrong(name, fmt.Errorf("%v is not a list", v))
	}
	for i, item := range items {
		items[i] = strings.TrimSpace(item)
		if items[i] == "" {
			return nil, l.wrong(name, errors.New("has an empty item"))
		}
		if valid == nil {
			continue
		}
		if err := valid(items[i]); err != nil {
			return nil, l.wrong(name, err)
		}
	}
	return items, nil
}

func validURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("%q is not an address such as http://127.0.0.1:8080", s)
	}
	return nil
}

func validAddress(s string) error {
	_, port, err := net.SplitHostPort(s)
	if err != nil || !validPort(port) {
		return fmt.Errorf("%q is not an address such as 127.0.0.1:8080", s)
	}
	return nil
}

func validPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0 && s[0] != '+'
}
