package command

import (
	"errors"

	"github.com/spf13/cobra"
)

// newQuickCommand returns the root: without a subcommand it is the main job.
func newQuickCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "attnbench",
		Short: "Measure attention mechanisms: time, memory and accuracy at a context length",
		Args: func(cmd *cobra.Command, args []string) error {
			return arguments(0, 0, "none, or a command")(cmd, args)
		},
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return errors.New("not yet") }
	return cmd
}
