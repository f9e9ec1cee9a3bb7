package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// settings are where one case looks; file is the content of the settings file in
// the user's folder.
type settings struct {
	flags map[string]string
	env   map[string]string
	file  string
}

func (s settings) load(t *testing.T) (Config, string, error) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "wiber", "config.yaml")
	if s.file != "" {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(s.file), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	c, err := Load(Sources{
		Flags:         s.flags,
		LookupEnv:     func(name string) (string, bool) { v, ok := s.env[name]; return v, ok },
		UserConfigDir: func() (string, error) { return dir, nil },
	})
	return c, path, err
}

func TestNothingGivenMeansTheDefaults(t *testing.T) {
	c, _, err := settings{}.load(t)
	want := Config{Server: "http://127.0.0.1:8080", Listen: "127.0.0.1:8080", State: ".data/controller"}
	c.from = nil
	if err != nil || !reflect.DeepEqual(c, want) {
		t.Errorf("got %+v, %v", c, err)
	}
}

func TestTheFirstThatSaysSomethingWins(t *testing.T) {
	file := "server: http://file:1/\ncluster: file\nnodes: [a:1, \"b:2\"]\nno-headers: true\nstate: /file\n"
	env := map[string]string{"WIBER_SERVER": "http://env:1", "WIBER_CLUSTER": "env", "WIBER_NODES": "c:3, d:4", "WIBER_DATA_ROOT": "/env", "WIBER_STATE": ""}
	flags := map[string]string{"server": "https://flag:1", "cluster": "", "tail": "5"}

	c, path, err := settings{file: file}.load(t)
	if err != nil || c.Server != "http://file:1" || c.Cluster != "file" || !reflect.DeepEqual(c.Nodes, []string{"a:1", "b:2"}) || !c.NoHeaders || c.State != "/file" || c.File != path {
		t.Errorf("the file: got %+v, %v", c, err)
	}
	if c.From(Server) != path || c.ServerIsDefault() {
		t.Errorf("the server comes from %s", c.From(Server))
	}
	c, _, err = settings{file: file, env: env}.load(t)
	if err != nil || c.Server != "http://env:1" || c.Cluster != "env" || !reflect.DeepEqual(c.Nodes, []string{"c:3", "d:4"}) || c.DataRoot != "/env" || c.State != "/file" {
		t.Errorf("the environment above the file: got %+v, %v", c, err)
	}
	c, _, err = settings{file: file, env: env, flags: flags}.load(t)
	if err != nil || c.Server != "https://flag:1" || c.Cluster != "" || c.DataRoot != "/env" {
		t.Errorf("flags above all: got %+v, %v", c, err)
	}
	if c.From(Server) != "--server" || c.From(DataRoot) != "WIBER_DATA_ROOT" {
		t.Errorf("the server comes from %s, the data root from %s", c.From(Server), c.From(DataRoot))
	}
}

func TestTheGatewayPortMovesOnlyTheDefault(t *testing.T) {
	env := map[string]string{"GATEWAY_PORT": "9999"}
	c, _, err := settings{env: env}.load(t)
	if err != nil || c.Server != "http://127.0.0.1:9999" || c.Listen != "127.0.0.1:9999" || !c.ServerIsDefault() {
		t.Errorf("got %+v, %v", c, err)
	}
	c, _, err = settings{env: env, file: "server: http://h:1\n", flags: map[string]string{"listen": "127.0.0.1:7"}}.load(t)
	if err != nil || c.Server != "http://h:1" || c.Listen != "127.0.0.1:7" || c.ServerIsDefault() {
		t.Errorf("got %+v, %v", c, err)
	}
}

func TestSomeVariablesStandAlone(t *testing.T) {
	c, _, err := settings{env: map[string]string{"NO_COLOR": "1", "WIBER_TEST_CLOCK": "+250ms,300ppm", "WIBER_OTHER": "x"}}.load(t)
	if err != nil || !c.NoColor || c.TestClock != "+250ms,300ppm" {
		t.Errorf("got %+v, %v", c, err)
	}
	if c, _, _ := (settings{env: map[string]string{"NO_COLOR": ""}}).load(t); c.NoColor {
		t.Error("an empty NO_COLOR takes the colour")
	}
}

func TestAWrongSettingSaysWhereItCameFrom(t *testing.T) {
	for _, tc := range []struct {
		name     string
		settings settings
		want     string // with FILE for the settings file
	}{
		{"a flag", settings{flags: map[string]string{"server": "localhost:8080"}}, `--server: "localhost:8080" is not an address such as http://127.0.0.1:8080`},
		{"a variable", settings{env: map[string]string{"WIBER_SERVER": "ftp://x"}}, `WIBER_SERVER: "ftp://x" is not`},
		{"the port", settings{env: map[string]string{"GATEWAY_PORT": "80a"}}, `GATEWAY_PORT: "80a" is not a port from 1 to 65535`},
		{"port 0", settings{env: map[string]string{"GATEWAY_PORT": "0"}}, `GATEWAY_PORT: "0"`},
		{"a large port", settings{flags: map[string]string{"listen": "127.0.0.1:70000"}}, `--listen: "127.0.0.1:70000" is not an address`},
		{"no state", settings{flags: map[string]string{"state": ""}}, "--state: is empty"},
		{"a node without a port", settings{flags: map[string]string{"nodes": "a:1,b"}}, `--nodes: "b" is not an address`},
		{"an empty node", settings{env: map[string]string{"WIBER_NODES": "a:1,"}}, "WIBER_NODES: has an empty item"},
		{"a key of the file", settings{file: "server: 5\n"}, "settings file FILE: server: 5 is not a string"},
		{"an item of the file", settings{file: "nodes: [a:1, 5]\n"}, "settings file FILE: nodes: 5 is not a string"},
		{"a group in the file", settings{file: "allowed-hosts: {a: b}\n"}, "settings file FILE: allowed-hosts.a: unknown key"},
		{"a truth value", settings{file: "no-headers: perhaps\n"}, `settings file FILE: no-headers: "perhaps" is neither true nor false`},
		{"an unknown key", settings{file: "sever: x\n"}, "settings file FILE: sever: unknown key; the keys are server, cluster,"},
		{"no YAML", settings{file: "server: [\n"}, "settings file FILE: "},
		{"a missing file that was named", settings{env: map[string]string{"WIBER_CONFIG": "/nonexistent/x.yaml"}}, "WIBER_CONFIG: stat /nonexistent/x.yaml: no such file"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, path, err := tc.settings.load(t)
			want := strings.ReplaceAll(tc.want, "FILE", path)
			if err == nil || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("got  %v\nwant %s…", err, want)
			}
		})
	}
}

func TestTheNamedFileIsReadInsteadOfTheUsers(t *testing.T) {
	named := filepath.Join(t.TempDir(), "other.conf")
	if err := os.WriteFile(named, []byte("cluster: other\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c, _, err := settings{file: "cluster: mine\n", env: map[string]string{"WIBER_CONFIG": named}}.load(t)
	if err != nil || c.Cluster != "other" || c.File != named {
		t.Errorf("got %+v, %v", c, err)
	}
}

func TestNobodyElseChangesTheBuiltInCluster(t *testing.T) {
	ClusterYAML()[0] = 'X'
	if text := string(ClusterYAML()); !strings.HasPrefix(text, "# The built-in demo") || !strings.Contains(text, "port: 9103") {
		t.Errorf("got %s", text)
	}
	disk, err := os.ReadFile(filepath.Base(ClusterFile))
	if err != nil || string(disk) != string(ClusterYAML()) {
		t.Errorf("%s differs from what is built in: %v", ClusterFile, err)
	}
}
