package harness

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"attnbench/internal/wholefile"
)

// ReadTokens reads a file of tokens: a table with tabs between its columns, one of which its first line calls token, or whole numbers between blanks.
func ReadTokens(path string) ([]int32, error) {
	text, err := wholefile.Read(path)
	if err != nil {
		return nil, err
	}
	list, err := parseTokens(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return list, nil
}

func parseTokens(text string) ([]int32, error) {
	first, rest, _ := strings.Cut(text, "\n")
	head := strings.Split(strings.TrimSuffix(first, "\r"), "\t")
	column, line := slices.Index(head, "token"), 1
	if column >= 0 {
		text, line = rest, 2
	}
	var list []int32
	add := func(word string, line int) error {
		x, err := strconv.ParseInt(word, 10, 32)
		if err != nil || x < 0 {
			return fmt.Errorf("line %d: token %.20q: want a whole number from 0 on", line, word)
		}
		list = append(list, int32(x))
		return nil
	}
	for row := range strings.Lines(text) {
		if row = strings.TrimRight(row, "\r\n"); row != "" {
			words := strings.Fields(row)
			if column >= 0 {
				cells := strings.Split(row, "\t")
				if len(cells) != len(head) {
					return nil, fmt.Errorf("line %d: %d columns: want %d, as the first line", line, len(cells), len(head))
				}
				words = cells[column : column+1]
			}
			for _, w := range words {
				if err := add(w, line); err != nil {
					return nil, err
				}
			}
		}
		line++
	}
	return list, nil
}
