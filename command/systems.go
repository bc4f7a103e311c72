package command

// The systems that train knows.
import (
	_ "attnbench/system/bert"
	_ "attnbench/system/translate"
)
