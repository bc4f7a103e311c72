package harness

import _ "attnbench/attn/all" // every mechanism of this module is known to what imports the harness
