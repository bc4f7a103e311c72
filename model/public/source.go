package public

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"

	"attnbench/safetensors"
)

// source is an open checkpoint: named tensors that are read one at a time.
type source interface {
	list() []safetensors.Info
	Floats(name string, dst []float32) error
	Close() error
}

// folder is a folder of safetensors, one file or shards.
type folder struct {
	files []*safetensors.File
	all   []safetensors.Info
	of    map[string]*safetensors.File
}

func (f *folder) list() []safetensors.Info { return f.all }

func (f *folder) Floats(name string, dst []float32) error { return f.of[name].Floats(name, dst) }

func (f *folder) Close() error {
	var err error
	for _, x := range f.files {
		err = errors.Join(err, x.Close())
	}
	return err
}

// openFolder opens model.safetensors, or the shards that model.safetensors.index.json lists.
func openFolder(dir string) (source, error) {
	f := &folder{of: map[string]*safetensors.File{}}
	err := f.add(filepath.Join(dir, "model.safetensors"))
	if errors.Is(err, fs.ErrNotExist) {
		err = f.addShards(dir)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (f *folder) add(path string) error {
	x, err := safetensors.Open(path)
	if err != nil {
		return err
	}
	f.files = append(f.files, x)
	for _, t := range x.Tensors {
		if f.of[t.Name] != nil {
			return fmt.Errorf("%s: tensor %s: another shard has it: want it once", path, t.Name)
		}
		f.of[t.Name] = x
	}
	f.all = append(f.all, x.Tensors...)
	return nil
}

func (f *folder) addShards(dir string) error {
	const index = "model.safetensors.index.json"
	text, err := readSmall(filepath.Join(dir, index))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("neither model.safetensors nor %s: want one of them", index)
	}
	if err != nil {
		return err
	}
	var list struct {
		Where map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return fmt.Errorf("%s: %w", index, err)
	}
	for _, name := range slices.Compact(slices.Sorted(maps.Values(list.Where))) {
		if name != filepath.Base(name) || !filepath.IsLocal(name) {
			return fmt.Errorf("%s: file %q: want the name of one in the same folder", index, name)
		}
		before := len(f.all)
		if err := f.add(filepath.Join(dir, name)); err != nil {
			return err
		}
		for _, t := range f.all[before:] {
			if list.Where[t.Name] != name {
				return fmt.Errorf("%s: tensor %s is in %s: want it listed there", index, t.Name, name)
			}
		}
	}
	for name := range list.Where {
		if f.of[name] == nil {
			return fmt.Errorf("%s: tensor %s: not in %s, where it is listed", index, name, list.Where[name])
		}
	}
	return nil
}
