package command

import (
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
)

// checkpointFile returns the file in dir, which it makes, for the training with that key; none without dir.
func checkpointFile(dir, key string) (string, error) {
	if dir == "" {
		return "", nil
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return "", err
	}
	h := fnv.New64a()
	h.Write([]byte(key))
	return filepath.Join(dir, fmt.Sprintf("%016x.ckpt", h.Sum64())), nil
}

// noteCheckpoint says where a training leaves its model.
func noteCheckpoint(cmd *cobra.Command, file string) {
	if file != "" {
		fmt.Fprintf(cmd.ErrOrStderr(), "checkpoint: %s\n", file)
	}
}
