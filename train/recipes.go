package train

import (
	"fmt"
	"slices"
	"strings"

	"attnbench/model"
	"attnbench/task"
)

// NamedRecipe is a frozen recipe. A change of any number in it makes another recipe with another hash, and results of the two
// are not compared.
type NamedRecipe struct {
	Name string
	Help string
	Recipe
}

// recipes are frozen; the first of a task is its default.
var recipes = []NamedRecipe{
	{
		Name: "mqar",
		Help: "recall of 4 pairs among 64 tokens by two layers of attention alone; full attention passes 99%",
		Recipe: Recipe{
			Task:     "mqar:reach=14",
			Model:    model.Config{Dim: 64, Layers: 2, Heads: 2, MLP: "none", Positions: "learned", Tied: true},
			Settings: Settings{Steps: 600, Batch: 64, Rate: 0.004, Warmup: 50, Decay: 0.1, Clip: 1, Beta2: 0.95},
		},
	},
	{
		Name: "mqar-mix",
		Help: "recall of 4 to 64 pairs learned together, and asked of rows up to twice as long with twice as many",
		Recipe: Recipe{
			Task:     "mqar-mix:vocab=1024,test=64x4-64x8-64x16-128x32-256x64-512x128,eval=500",
			Model:    model.Config{Dim: 64, Layers: 2, Heads: 2, MLP: "none", Positions: "none", ShortConv: 3, Tied: true},
			Settings: Settings{Steps: 600, Batch: 32, Rate: 0.004, Warmup: 50, Decay: 0.1, Clip: 1, Beta2: 0.95, EvalEvery: 100, TargetUnit: "row-accuracy", TargetValue: 0.995},
		},
	},
	{
		Name: "copy",
		Help: "copying of 4 items over 4 to 256 tokens by two layers of attention alone; full attention gets all right",
		Recipe: Recipe{
			Task:     "copy",
			Model:    model.Config{Dim: 64, Layers: 2, Heads: 2, MLP: "none", Positions: "none", Tied: true},
			Settings: Settings{Steps: 400, Batch: 32, Rate: 0.004, Warmup: 20, Decay: 0.01, Clip: 1, Beta2: 0.95},
		},
	},
	{
		Name: "listops",
		Help: "list operations of 17 to 255 tokens, nested up to 6 deep, by two layers with an MLP",
		Recipe: Recipe{
			Task:     "listops:min=16,max=256,depth=6,eval=1000",
			Model:    model.Config{Dim: 64, Layers: 2, Heads: 4, MLP: "gelu", MLPWidth: 128, Positions: "rope", Tied: true},
			Settings: Settings{Steps: 600, Batch: 32, Rate: 0.003, Warmup: 60, Decay: 0.1, Clip: 1, Beta2: 0.95},
		},
	},
	{
		Name: "induction",
		Help: "induction heads learned over 64 tokens and asked of up to 512, by two layers of attention alone",
		Recipe: Recipe{
			Task:     "induction:length=512,trained=64",
			Model:    model.Config{Dim: 64, Layers: 2, Heads: 2, MLP: "none", Positions: "rope", Tied: true},
			Settings: Settings{Steps: 600, Batch: 64, Rate: 0.003, Warmup: 50, Decay: 0.1, Clip: 1, Beta2: 0.95},
		},
	},
	{
		Name: "selective-copy",
		Help: "selective copying of 16 items among 256 tokens, MAD's baseline, by two layers with an MLP",
		Recipe: Recipe{
			Task:     "selective-copy",
			Model:    model.Config{Dim: 64, Layers: 2, Heads: 2, MLP: "swiglu", MLPWidth: 128, Positions: "learned"},
			Settings: Settings{Steps: 1000, Batch: 16, Rate: 0.003, Warmup: 60, Decay: 0.01, Clip: 1, Beta2: 0.95},
		},
	},
	{
		Name: "mad-recall",
		Help: "in-context recall, MAD's baseline with fresh rows, by two layers with an MLP",
		Recipe: Recipe{
			Task:     "mad-recall",
			Model:    model.Config{Dim: 64, Layers: 2, Heads: 2, MLP: "swiglu", MLPWidth: 128, Positions: "rope"},
			Settings: Settings{Steps: 600, Batch: 32, Rate: 0.003, Warmup: 60, Decay: 0.01, Clip: 1, Beta2: 0.95},
		},
	},
	{
		Name: "mad-fuzzy",
		Help: "fuzzy recall, MAD's baseline with fresh rows and labels on answers alone, by two layers with an MLP",
		Recipe: Recipe{
			Task:     "mad-fuzzy:next=false",
			Model:    model.Config{Dim: 64, Layers: 2, Heads: 2, MLP: "swiglu", MLPWidth: 128, Positions: "rope"},
			Settings: Settings{Steps: 600, Batch: 32, Rate: 0.003, Warmup: 60, Decay: 0.01, Clip: 1, Beta2: 0.95},
		},
	},
	{
		Name: "mad-memory",
		Help: "memorization of 127 facts, MAD's baseline with fresh rows, by two layers with an MLP",
		Recipe: Recipe{
			Task:     "mad-memory",
			Model:    model.Config{Dim: 64, Layers: 2, Heads: 2, MLP: "swiglu", MLPWidth: 128, Positions: "rope"},
			Settings: Settings{Steps: 300, Batch: 32, Rate: 0.003, Warmup: 60, Decay: 0.01, Clip: 1, Beta2: 0.95},
		},
	},
	{
		Name: "mad-compress",
		Help: "compression of 31 tokens into the last one's output, MAD's baseline with fresh rows, by two layers with an MLP and a bottleneck",
		Recipe: Recipe{
			Task:     "mad-compress",
			Model:    model.Config{Dim: 64, Layers: 2, Heads: 2, MLP: "swiglu", MLPWidth: 128, Positions: "rope", Bottleneck: true},
			Settings: Settings{Steps: 1000, Batch: 32, Rate: 0.003, Warmup: 60, Decay: 0.01, Clip: 1, Beta2: 0.95},
		},
	},
	{
		Name: "niah",
		Help: "a needle in 32 to 512 tokens, learned up to 128, by two layers with short convolutions",
		Recipe: Recipe{
			Task:     "niah:length=512,trained=128,symbols=128",
			Model:    model.Config{Dim: 64, Layers: 2, Heads: 2, MLP: "swiglu", MLPWidth: 128, Positions: "rope", ShortConv: 3, Tied: true},
			Settings: Settings{Steps: 600, Batch: 64, Rate: 0.004, Warmup: 50, Decay: 0.01, Clip: 1, Beta2: 0.95},
		},
	},
	{
		Name: "variable-tracking",
		Help: "chains of 4 assignments in 32 to 512 tokens, learned up to 128, by two layers with short convolutions",
		Recipe: Recipe{
			Task:     "variable-tracking:length=512,trained=128,hops=3,symbols=256",
			Model:    model.Config{Dim: 64, Layers: 2, Heads: 2, MLP: "swiglu", MLPWidth: 128, Positions: "rope", ShortConv: 3, Tied: true},
			Settings: Settings{Steps: 600, Batch: 32, Rate: 0.003, Warmup: 50, Decay: 0.01, Clip: 1, Beta2: 0.95},
		},
	},
	{
		Name: "common-words",
		Help: "4 common words of 64 to 512, learned up to 128, by two layers",
		Recipe: Recipe{
			Task:     "common-words:length=512,trained=128,common=4,often=10,rare=2,symbols=512",
			Model:    model.Config{Dim: 64, Layers: 2, Heads: 2, MLP: "swiglu", MLPWidth: 128, Positions: "rope", ShortConv: 3, Tied: true},
			Settings: Settings{Steps: 600, Batch: 32, Rate: 0.003, Warmup: 50, Decay: 0.01, Clip: 1, Beta2: 0.95},
		},
	},
	{
		Name: "frequent-words",
		Help: "the 3 most frequent words of 64 to 512, learned up to 128, by two layers",
		Recipe: Recipe{
			Task:     "frequent-words:length=512,trained=128,symbols=256",
			Model:    model.Config{Dim: 64, Layers: 2, Heads: 2, MLP: "swiglu", MLPWidth: 128, Positions: "rope", ShortConv: 3, Tied: true},
			Settings: Settings{Steps: 600, Batch: 32, Rate: 0.003, Warmup: 50, Decay: 0.01, Clip: 1, Beta2: 0.95},
		},
	},
	{
		Name: "parity",
		Help: "parity of up to 32 bits, asked of up to 256, by two layers with short convolutions",
		Recipe: Recipe{
			Task:     "parity:running=true",
			Model:    model.Config{Dim: 64, Layers: 2, Heads: 2, MLP: "swiglu", MLPWidth: 128, Positions: "none", ShortConv: 3, Tied: true},
			Settings: Settings{Steps: 600, Batch: 64, Rate: 0.003, Warmup: 50, Decay: 0.01, Clip: 1, Beta2: 0.95},
		},
	},
	{
		Name: "adding",
		Help: "the sum of two of 128 numbers, by two layers",
		Recipe: Recipe{
			Task:     "adding",
			Model:    model.Config{Dim: 64, Layers: 2, Heads: 2, MLP: "swiglu", MLPWidth: 128, Positions: "none", Tied: true},
			Settings: Settings{Steps: 600, Batch: 32, Rate: 0.003, Warmup: 50, Decay: 0.01, Clip: 1, Beta2: 0.95},
		},
	},
	{
		Name: "pathfinder",
		Help: "pathfinder of 32x32 pixels, by two layers of LRA's width",
		Recipe: Recipe{
			Task:     "pathfinder:eval=200",
			Model:    model.Config{Dim: 32, Layers: 2, Heads: 2, MLP: "gelu", MLPWidth: 64, Positions: "learned", Tied: true},
			Settings: Settings{Steps: 400, Batch: 8, Rate: 0.003, Warmup: 40, Decay: 0.01, Clip: 1, Beta2: 0.95},
		},
	},
	{
		Name: "go-package",
		Help: "the package of a piece of Go source, by two layers; also the recipe of the long classifications of LRA",
		Recipe: Recipe{
			Task:     "go-package:length=512,eval=500",
			Model:    model.Config{Dim: 64, Layers: 2, Heads: 2, MLP: "gelu", MLPWidth: 128, Positions: "rope", ShortConv: 3, Tied: true},
			Settings: Settings{Steps: 300, Batch: 8, Rate: 0.003, Warmup: 30, Decay: 0.1, Clip: 1, Beta2: 0.95},
		},
	},
	{
		Name: "go-tags",
		Help: "kinds of identifiers in Go source, by two layers",
		Recipe: Recipe{
			Task:     "go-tags:length=512",
			Model:    model.Config{Dim: 64, Layers: 2, Heads: 2, MLP: "gelu", MLPWidth: 128, Positions: "rope", ShortConv: 3, Tied: true},
			Settings: Settings{Steps: 300, Batch: 8, Rate: 0.003, Warmup: 30, Decay: 0.1, Clip: 1, Beta2: 0.95},
		},
	},
	{
		Name: "opticks",
		Help: "bytes of real text in seconds; all mechanisms pass the order-0 model",
		Recipe: Recipe{
			Task:     "opticks:length=256",
			Model:    model.Config{Dim: 64, Layers: 2, Heads: 2, MLP: "gelu", MLPWidth: 256, Positions: "rope", Tied: true},
			Settings: Settings{Steps: 150, Batch: 8, Rate: 0.006, Warmup: 15, Decay: 0.1, Clip: 1, Beta2: 0.95},
		},
	},
	{
		Name: "quick",
		Help: "the main job's: rows of 1024 bytes, longer than the windows of sparse mechanisms, for as many steps as its time allows",
		Recipe: Recipe{
			Task:     "opticks:eval=32768",
			Model:    model.Config{Dim: 64, Layers: 2, Heads: 2, MLP: "gelu", MLPWidth: 256, Positions: "rope", Tied: true},
			Settings: Settings{Steps: 120, Batch: 2, Rate: 0.006, Warmup: 12, Decay: 0.1, Clip: 1, Beta2: 0.95},
			Params:   115648,
		},
	},
	{
		Name: "opticks-long",
		Help: "bytes of real text in minutes; full attention passes the order-4 model",
		Recipe: Recipe{
			Task:     "opticks:length=256",
			Model:    model.Config{Dim: 128, Layers: 2, Heads: 4, MLP: "gelu", MLPWidth: 512, Positions: "rope", Tied: true},
			Settings: Settings{Steps: 600, Batch: 16, Rate: 0.004, Warmup: 50, Decay: 0.1, Clip: 1, Beta2: 0.95},
		},
	},
}

// Recipes returns the frozen recipes.
func Recipes() []NamedRecipe { return append([]NamedRecipe(nil), recipes...) }

// RecipeNamed returns the recipe of that name.
func RecipeNamed(name string) (NamedRecipe, error) {
	var names []string
	for _, r := range recipes {
		if r.Name == name {
			return r, nil
		}
		names = append(names, r.Name)
	}
	return NamedRecipe{}, fmt.Errorf("unknown recipe %q: want one of %s", name, strings.Join(names, ", "))
}

// RecipeFor returns the default recipe for a task's spelling: that of the same name, with the options of the spelling. Texts
// that have no recipe of their own take that of opticks.
func RecipeFor(spec string) (NamedRecipe, error) {
	name, options, _ := strings.Cut(spec, ":")
	find := name
	if like[name] != "" {
		find = like[name]
	}
	for _, r := range recipes {
		if taskName, _, _ := strings.Cut(r.Task, ":"); r.Name != find || taskName != find {
			continue
		}
		switch {
		case options != "":
			r.Task = spec
		case find == "opticks" && name != find:
			r.Task = name + ":length=256"
		case name != find:
			r.Task = name
		}
		return r, nil
	}
	return NamedRecipe{}, fmt.Errorf("task %q has no recipe: want one of %s", spec, strings.Join(slices.DeleteFunc(task.Names(), func(name string) bool {
		_, err := RecipeNamed(name)
		return err != nil && like[name] == ""
	}), ", "))
}

// like are tasks that take the recipe of another.
var like = map[string]string{
	"gosrc": "opticks", "books": "opticks", "text": "opticks",
	"lra-text": "go-package", "lra-retrieval": "go-package", "lra-image": "go-package",
}
