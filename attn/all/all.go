// Package all registers the mechanisms of this module, for programs that import it blank.
package all

import (
	_ "attnbench/attn/full"
	_ "attnbench/attn/linear"
	_ "attnbench/attn/sliding"
	_ "attnbench/attn/sparse"
	_ "attnbench/attn/wrapped"
)
