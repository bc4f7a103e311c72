package command

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"attnbench/results"
)

const pageTop = `# The mechanisms

What the registry holds, as ` + "`attnbench list -o markdown`" + ` prints it; ` + "`go test ./command -run MechanismsPage -update`" + ` writes this page. How a
mechanism is made is said in CONTRIBUTING.md, what the columns mean in ` + "`attnbench list -h`" + `.

`

// TestMechanismsPage: attn/README.md is what list prints.
func TestMechanismsPage(t *testing.T) {
	const path = "../attn/README.md"
	var table bytes.Buffer
	if err := list(&table, results.Markdown); err != nil {
		t.Fatal(err)
	}
	text := pageTop + strings.ToUpper(listSizes[:1]) + strings.ReplaceAll(listSizes[1:], "\n", " ") + ".\n"
	for line := range strings.Lines(table.String()) {
		if !strings.HasPrefix(line, "|") && line != "\n" {
			line = "\n## " + line // a family
		}
		text += line
	}
	text = strings.ReplaceAll(text, "\n\n\n", "\n\n")
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(page) != text {
		t.Errorf("%s is stale: want the output of attnbench list; %q writes it", path, "go test ./command -run MechanismsPage -update")
	}
}
