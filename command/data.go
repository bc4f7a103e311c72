package command

import (
	"fmt"
	"strings"

	"attnbench/results"
	"attnbench/task"

	"github.com/spf13/cobra"
)

func newDataCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "data [TASK FOLDER]",
		Short: "List the data sets that tasks read from folders, or check one",
		Long: `List the data sets that tasks read from a folder of yours: what each is, its licence, its official source, the archive
there with its checksum, the folder that the archive unpacks to and the files that are read from it. Nothing is
downloaded. With a task and a folder, read the set from there as the task does, and print what it holds.

A task finds its set by its option path: attnbench train full --task lra-image:path=cifar-10-batches-bin.`,
		Example: `  attnbench data
  attnbench data lra-text aclImdb`,
		Args: arguments(0, 2, "none, or a task and a folder"),
	}
	format := addFormat(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 {
			return usage(cmd, fmt.Errorf("a task without a folder: want both, or none"))
		}
		if len(args) == 2 {
			return checkData(cmd, args[0], args[1])
		}
		s := results.Sheet{Header: []string{"task", "data", "licence", "source", "archive", "folder", "files", "checked"}, Left: 8}
		for _, d := range task.DataSets() {
			s.Rows = append(s.Rows, []string{d.Task, d.Title, d.Licence, d.Source, d.Archive, d.Folder, strings.Join(d.Files, ", "), d.Checked})
		}
		if format.Format != results.Text {
			return s.Write(cmd.OutOrStdout(), format.Format)
		}
		// Eight columns of sentences fit no terminal.
		for _, r := range s.Rows {
			fmt.Fprintln(cmd.OutOrStdout(), r[0])
			for i, cell := range r[1:] {
				if cell != "" {
					fmt.Fprintf(cmd.OutOrStdout(), "  %-8s %s\n", s.Header[1+i], cell)
				}
			}
		}
		return nil
	}
	return cmd
}

func checkData(cmd *cobra.Command, name, folder string) error {
	var names []string
	for _, d := range task.DataSets() {
		if d.Task == name {
			found, err := d.Check(folder)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), found)
			return err
		}
		names = append(names, d.Task)
	}
	return fmt.Errorf("unknown data set %q: want one of %s", name, strings.Join(names, ", "))
}
