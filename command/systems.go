package command

// The systems that train knows.
import (
	_ "attnbench/system/prose"
	_ "attnbench/system/vanish"
)
