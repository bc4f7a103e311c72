package task

import (
	"fmt"
	"os"
	"path/filepath"
)

func init() { Register("lra-image", LRAImage{}, LRAImage.New) }

// LRAImage holds the options of image classification pixel by pixel: CIFAR-10 in grey, 1,024 bytes a picture.
//
// Krizhevsky 2009; as a sequence in Tay et al. 2021, Long Range Arena (arXiv:2011.04006). The folder is cifar-10-batches-bin of the binary version: data_batch_1.bin to data_batch_5.bin and test_batch.bin, each of records of
// a label and 3,072 bytes, red, green and blue. The last tenth of the training pictures is for validation. Grey is TensorFlow's 0.2989 r + 0.5870 g + 0.1140 b.
type LRAImage struct {
	Path Path `opt:"path"`
	Eval int  `opt:"eval"` // pictures of the test set, spread evenly; 0 for all
}

// New returns the task with the options o.
func (o LRAImage) New() (Task, error) {
	list, err := loadOnce("lra-image", o.Path, readCIFAR)
	if err != nil {
		return nil, err
	}
	return newClassifier(Info{Name: Spell("lra-image", o), Title: "CIFAR-10 in grey, pixel by pixel", Paper: "Krizhevsky 2009; LRA (arXiv:2011.04006)"}, list, 10, pictureSize+1, o.Eval, firstBytes)
}

const (
	pictureSize = 32 * 32
	cifarRecord = 1 + 3*pictureSize
)

func readCIFAR(folder string) (list examples, err error) {
	for i := 1; i <= 6; i++ {
		name, part := fmt.Sprintf("data_batch_%d.bin", i), 0
		if i == 6 {
			name, part = "test_batch.bin", 2
		}
		path := filepath.Join(folder, name)
		data, err := os.ReadFile(path)
		if err != nil {
			return list, err
		}
		some, err := parseCIFAR(data)
		if err != nil {
			return list, fmt.Errorf("%s: %w", path, err)
		}
		list[part] = append(list[part], some...)
	}
	n := len(list[0]) * 9 / 10
	list[0], list[1] = list[0][:n:n], list[0][n:]
	return list, nil
}

func parseCIFAR(data []byte) (list []example, err error) {
	if len(data) == 0 || len(data)%cifarRecord != 0 {
		return nil, fmt.Errorf("%d bytes: want records of %d, unpacked", len(data), cifarRecord)
	}
	for i := 0; i < len(data); i += cifarRecord {
		r := data[i : i+cifarRecord]
		if r[0] > 9 {
			return nil, fmt.Errorf("label %d of picture %d: want 0 to 9", r[0], i/cifarRecord)
		}
		grey := make([]byte, pictureSize)
		for j := range grey {
			sum := 2989*int(r[1+j]) + 5870*int(r[1+pictureSize+j]) + 1140*int(r[1+2*pictureSize+j])
			grey[j] = byte(sum * 511 / (510 * 10000)) // its conversion to bytes scales by 255.5 and cuts off
		}
		list = append(list, example{grey, int(r[0])})
	}
	return list, nil
}
