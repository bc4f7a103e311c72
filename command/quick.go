package command

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// newQuickCommand returns the root: without a subcommand it is the main job.
func newQuickCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "attnbench",
		Short: "Measure attention mechanisms: time, memory and accuracy at a context length",
		Args:  knownCommand,
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return errors.New("not yet") }
	return cmd
}

// knownCommand refuses what is neither nothing nor a command.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, c := range cmd.Commands() {
		if !c.Hidden && c.Name() != "help" {
			names = append(names, c.Name())
		}
	}
	return usage(cmd, fmt.Errorf("unknown command %q: want one of %s", args[0], strings.Join(names, ", ")))
}
