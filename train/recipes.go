package train

import (
	"fmt"
	"strings"

	"attnbench/model"
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
		Name: "copy",
		Help: "copying of 4 items over 4 to 256 tokens by two layers of attention alone; full attention gets all right",
		Recipe: Recipe{
			Task:     "copy",
			Model:    model.Config{Dim: 64, Layers: 2, Heads: 2, MLP: "none", Positions: "none", Tied: true},
			Settings: Settings{Steps: 400, Batch: 32, Rate: 0.004, Warmup: 20, Decay: 0.01, Clip: 1, Beta2: 0.95},
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

// RecipeFor returns the default recipe for a task's spelling: that of the task of the same name, with the options of the spelling. Texts
// that have no recipe of their own take that of opticks.
func RecipeFor(spec string) (NamedRecipe, error) {
	name, options, _ := strings.Cut(spec, ":")
	find := name
	switch name {
	case "gosrc", "books", "text":
		find = "opticks"
	}
	r, err := RecipeNamed(find)
	if err != nil {
		return r, fmt.Errorf("task %q has no recipe: want one of mqar, copy, opticks, gosrc, books, text", spec)
	}
	switch {
	case options != "":
		r.Task = spec
	case name != find:
		r.Task = name + ":length=256"
	}
	return r, nil
}
