package command

// The systems that train knows.
import (
	_ "attnbench/system/bert"
	_ "attnbench/system/fusion"
	_ "attnbench/system/prose"
	_ "attnbench/system/translate"
	_ "attnbench/system/vanish"
)
