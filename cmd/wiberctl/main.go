// Command wiberctl is all of Wiber in one binary: the command line, the
// controller (wiberctl controller) and a node (wiberctl node). Everything it
// does is in package cli.
package main

import (
	"os"

	"github.com/wiber/wiber/cmd/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
