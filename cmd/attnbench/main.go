// Command attnbench measures attention mechanisms: attnbench -h says how.
package main

import (
	"os"

	"attnbench/command"
)

func main() { os.Exit(command.Main(os.Args[1:], os.Stdout, os.Stderr)) }
