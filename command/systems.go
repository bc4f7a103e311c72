package command

// The systems that train knows.
import (
	_ "attnbench/system/prose"
)
