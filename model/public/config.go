package public

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// maxConfig bounds config.json and an index of shards, in bytes.
const maxConfig = 1 << 24

// readConfig returns a folder's config.json and the model_type in it.
func readConfig(dir string) (text []byte, modelType string, err error) {
	if text, err = readSmall(filepath.Join(dir, "config.json")); err != nil {
		return nil, "", err
	}
	var c struct {
		ModelType string `json:"model_type"`
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, "", fmt.Errorf("config.json: %w", err)
	}
	return text, c.ModelType, nil
}

func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err == nil && len(text) > maxConfig {
		err = fmt.Errorf("%s: more than %d bytes: want fewer", path, maxConfig)
	}
	return text, err
}

// size is a setting that counts something; field is its name in the file.
type size struct {
	field string
	value int
}

// checkSizes wants at least 1 of everything, and sizes whose sums do not overflow.
func checkSizes(list ...size) error {
	for _, s := range list {
		if s.value < 1 || s.value > 1<<31-1 {
			return fmt.Errorf("%s is %d: want 1 to 2^31-1", s.field, s.value)
		}
	}
	return nil
}

// must wants a setting to have one of the values that the model can be built for.
func must[T comparable](field string, got T, want ...T) error {
	for _, w := range want {
		if got == w {
			return nil
		}
	}
	return fmt.Errorf("%s is %v: want one of %v", field, got, want)
}

// token reads a token that may be missing, null, or a list, of which the first counts; -1 for none.
func token(raw json.RawMessage) int {
	var list []int
	if json.Unmarshal(raw, &list) == nil && len(list) > 0 {
		return list[0]
	}
	one := -1
	if json.Unmarshal(raw, &one) != nil || one < 0 {
		return -1
	}
	return one
}

// begins is what config.json says of the first token; nil leaves it out.
func begins(token int) any {
	if token < 0 {
		return nil
	}
	return token
}

// none wants a setting to be missing or null: what it would change is not built.
func none(field string, raw json.RawMessage) error {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	var short bytes.Buffer
	json.Compact(&short, raw)
	return fmt.Errorf("%s is %.40s: want none", field, &short)
}
