package harness

import (
	"crypto/sha256"
	"fmt"
	"strings"

	"attnbench/model"
	"attnbench/task"
	"attnbench/train"
)

// Recipe is everything about a training run but the mechanism and the seed: a row of a table differs
// from the next in the mechanism alone.
type Recipe struct {
	Name  string // for people; the hash tells recipes apart
	Task  string // spelling, as task.New parses it
	Model model.Config
	Train train.Settings
}

// Recipes are the recipes of Accuracy, one a task.
var Recipes = []Recipe{
	{
		Name: "recall", Task: "mqar",
		Model: model.Config{Dim: 64, Layers: 2, Heads: 2, Positions: "rope", Tied: true},
		Train: train.Settings{Steps: 1500, Batch: 64, Rate: 3e-3, FinalRate: 1e-4, Warmup: 100, Decay: 0.1, Clip: 1},
	},
	{
		Name: "text", Task: "opticks:length=256,eval=65536",
		Model: textModel,
		Train: train.Settings{Steps: 3000, Batch: 16, Rate: 3e-3, FinalRate: 1e-4, Warmup: 100, Decay: 0.1, Clip: 1},
	},
}

// quickRecipe is the main job's: the text model for as many steps as its time allows.
var quickRecipe = Recipe{
	Name: "quick", Task: "opticks:eval=32768",
	Model: textModel,
	Train: train.Settings{Steps: 120, Batch: 2, Rate: 3e-3, FinalRate: 3e-4, Warmup: 20, Decay: 0.1, Clip: 1},
}

var textModel = model.Config{Dim: 64, Layers: 2, Heads: 2, Positions: "rope", MLP: "gelu", MLPWidth: 256, Tied: true}

// RecipeFor returns the recipe for a task's spelling: that of the task's name, with the options of the spelling.
func RecipeFor(spec string) (Recipe, error) {
	name, _, _ := strings.Cut(spec, ":")
	var names []string
	for _, r := range Recipes {
		own, _, _ := strings.Cut(r.Task, ":")
		if own == name {
			if spec != name {
				r.Task = spec
			}
			return r, nil
		}
		names = append(names, own)
	}
	return Recipe{}, fmt.Errorf("task %q has no recipe: want one of %s", spec, strings.Join(names, ", "))
}

// Hash names the recipe in result keys: it changes with every number that a result depends on, the data among them.
func (r Recipe) Hash() (string, error) {
	t, err := task.New(r.Task)
	if err != nil {
		return "", err
	}
	text := r.train().Hash() + "\n" + t.Info().Data
	return fmt.Sprintf("%.8x", sha256.Sum256([]byte(text))), nil
}

func (r Recipe) train() train.Recipe {
	return train.Recipe{Task: r.Task, Model: r.Model, Settings: r.Train}
}
