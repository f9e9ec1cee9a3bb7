package cli

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// versionOf names the build: a module version when the binary was installed
// with one, else the commit it was built from, else "devel".
func versionOf(info *debug.BuildInfo) string {
	if info == nil {
		return "devel"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	revision, modified := "", ""
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			revision = s.Value[:min(12, len(s.Value))]
		case "vcs.modified":
			if s.Value == "true" {
				modified = "-dirty"
			}
		}
	}
	if revision == "" {
		return "devel"
	}
	return revision + modified
}

// version is this program's version.
func version() string {
	info, _ := debug.ReadBuildInfo()
	return versionOf(info)
}

// versionCommand prints what this binary is. It asks nobody.
func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:         "version",
		Short:       "Print the version of this program",
		Args:        cobra.NoArgs,
		Annotations: map[string]string{outputsKey: "json"},
		RunE: func(*cobra.Command, []string) error {
			if a.output == "json" {
				out, err := json.Marshal(map[string]string{
					"version": version(), "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH,
				})
				if err != nil {
					return err
				}
				return printJSON(a.stdout, out)
			}
			_, err := fmt.Fprintf(a.stdout, "wiberctl %s (%s, %s/%s)\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}
