package controller

import "path/filepath"

// logFile is where the output of a node's running incarnation is.
func logFile(dataRoot, node string) string {
	return filepath.Join(dataRoot, node, "logs", "console.log")
}

// NodeLog implements apiserver.Backend.
func (c *Controller) NodeLog(cluster, id string) (string, error) {
	cl, spec, err := c.pickNode(cluster, id)
	if err != nil {
		return "", err
	}
	return logFile(cl.Spec.DataRoot, spec.ID), nil
}
