package task

import (
	"fmt"
	"sync"
)

// DataSet is what a task reads from a folder of the user's, and where that comes from.
type DataSet struct {
	Task    string   // registered name
	Title   string   // what it is
	Licence string   // as its source states it
	Source  string   // official
	Archive string   // file to get there, with its checksum where the source or a widely used reader states one
	Folder  string   // what path is to name, as the archive unpacks
	Files   []string // that the task reads, below the folder
	Checked string   // what the reader itself checks
	read    func(folder string) (examples, error)
}

var dataSets = []DataSet{
	{
		Task: "books", Title: "books for language modelling", Licence: "of the books; the project's own are in the public domain", Source: "any; Project Gutenberg, https://www.gutenberg.org",
		Folder: "a folder with an index", Files: []string{"index.tsv (columns file, lm_split)", "the files it names, text or gz"}, Checked: "index and files; size and SHA-256 stand with each result",
	},
	{
		Task: "gosrc", Title: "the Go standard library's source", Licence: "BSD 3-Clause", Source: "https://go.dev/dl", Folder: "of the Go installation, found by itself", Files: []string{"src/**/*.go"},
		Checked: "its version, size and SHA-256 stand with each result; also of go-package and go-tags",
	},
	{
		Task: "lra-text", Title: "IMDb film reviews, 25,000 + 25,000", Licence: "for research; none stated beside the wish to be cited (Maas et al. 2011)", Source: "https://ai.stanford.edu/~amaas/data/sentiment",
		Archive: "aclImdb_v1.tar.gz, md5 7c2ac02c03563afcf9b574c7e56c153a", Folder: "aclImdb", Files: []string{"train/neg/*.txt", "train/pos/*.txt", "test/neg/*.txt", "test/pos/*.txt"},
		Checked: "a review in each folder; number and SHA-256 stand with each result", read: readReviews,
	},
	{
		Task: "lra-retrieval", Title: "AAN pairs of papers, 147,086 + 18,090 + 17,437", Licence: "of the ACL Anthology Network, for research; LRA's own files state none", Source: "https://github.com/google-research/long-range-arena",
		Archive: "lra_release.gz; no checksum is published", Folder: "lra_release/lra_release/tsv_data", Files: []string{"new_aan_pairs.train.tsv", "new_aan_pairs.eval.tsv", "new_aan_pairs.test.tsv"},
		Checked: "five fields a line, labels 0 and 1; number and SHA-256 stand with each result", read: readPairs,
	},
	{
		Task: "lra-image", Title: "CIFAR-10, 50,000 + 10,000 pictures", Licence: "none stated; its authors wish to be cited (Krizhevsky 2009)", Source: "https://www.cs.toronto.edu/~kriz/cifar.html",
		Archive: "cifar-10-binary.tar.gz, md5 c32a1d4ab5d03f1284b67883e8d87530", Folder: "cifar-10-batches-bin",
		Files:   []string{"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin", "test_batch.bin"},
		Checked: "records of 3,073 bytes, labels 0 to 9; number and SHA-256 stand with each result", read: readCIFAR,
	},
}

// DataSets describes what tasks read from folders.
func DataSets() []DataSet { return append([]DataSet(nil), dataSets...) }

// Check reads the set from a folder, as its task does, and says what is there.
func (d DataSet) Check(folder string) (string, error) {
	if d.read == nil {
		return "", fmt.Errorf("data set %s: read by its task alone", d.Task)
	}
	list, err := d.read(folder)
	if err != nil {
		return "", d.missing(err)
	}
	return list.data(""), nil
}

// missing says how to come by a set that could not be read.
func (d DataSet) missing(err error) error {
	return fmt.Errorf("%w: want the folder %s of %s from %s (attnbench data says more)", err, d.Folder, d.Archive, d.Source)
}

var loaded = struct {
	sync.Mutex
	sets map[string]examples
}{sets: map[string]examples{}}

// loadOnce reads the examples of a task from a folder, once in a process: a task is made many times for one run.
func loadOnce(name string, folder Path, read func(folder string) (examples, error)) (examples, error) {
	var set DataSet
	for _, d := range dataSets {
		if d.Task == name {
			set = d
		}
	}
	if folder == "" {
		return examples{}, set.missing(fmt.Errorf("option path is missing"))
	}
	loaded.Lock()
	defer loaded.Unlock()
	key := name + ":" + string(folder)
	if list, ok := loaded.sets[key]; ok {
		return list, nil
	}
	list, err := read(string(folder))
	if err != nil {
		return examples{}, set.missing(err)
	}
	loaded.sets[key] = list
	return list, nil
}
