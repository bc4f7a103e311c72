// Command plugin is attnbench with one mechanism more.
package main

import (
	"os"

	"attnbench/command"
)

func main() { os.Exit(command.Main(os.Args[1:], os.Stdout, os.Stderr)) }
