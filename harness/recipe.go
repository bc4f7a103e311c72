package harness

import (
	"crypto/sha256"
	"fmt"

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

	Params int // learned numbers that the width of the MLPs is chosen for; 0 leaves it
}

// RecipeFor returns the default recipe for a task's spelling, of package train's frozen ones.
func RecipeFor(spec string) (Recipe, error) { return fromTrain(train.RecipeFor(spec)) }

// RecipeNamed returns the frozen recipe of that name.
func RecipeNamed(name string) (Recipe, error) { return fromTrain(train.RecipeNamed(name)) }

func fromTrain(r train.NamedRecipe, err error) (Recipe, error) {
	return Recipe{Name: r.Name, Task: r.Task, Model: r.Model, Train: r.Settings, Params: r.Params}, err
}

// defaultTasks are the tasks of Accuracy when none is asked for: one of recall, one of distance, one of text. The others take as long each.
func defaultTasks() []string {
	var list []string
	for _, name := range []string{"mqar", "copy", "opticks"} {
		r, err := train.RecipeNamed(name)
		if err != nil {
			panic(err) // one of the frozen recipes
		}
		list = append(list, r.Task)
	}
	return list
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
	return train.Recipe{Task: r.Task, Model: r.Model, Settings: r.Train, Params: r.Params}
}
