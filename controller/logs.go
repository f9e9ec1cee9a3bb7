package controller

import (
	"path/filepath"

	"github.com/wiber/wiber/controller/proc"
)

// logFile is where the output of a node's running incarnation is.
func logFile(dataRoot, node string) string {
	return filepath.Join(dataRoot, node, "logs", "console.log")
}

// logFiles returns where the output of a node's incarnations is, the newest
// first: that of the process that runs or ran last, then the one before, as far
// as they are kept. The error is for a client to see.
func (c *Controller) logFiles(cluster, id string) ([]string, error) {
	cl, spec, err := c.pickNode(cluster, id)
	if err != nil {
		return nil, err
	}
	return proc.LogFiles(logFile(cl.Spec.DataRoot, spec.ID))
}
