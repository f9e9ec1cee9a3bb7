package manifests

import (
	"embed"
	"io/fs"
)

//go:embed samples
var samples embed.FS

// Samples returns the manifests that users can start from.
func Samples() fs.FS {
	sub, err := fs.Sub(samples, "samples")
	if err != nil {
		panic("manifests: the embedded samples are missing: " + err.Error())
	}
	return sub
}
