package task

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestWindows(t *testing.T) {
	for _, c := range []struct {
		n, window, stride int
		want              []Window
	}{
		{10, 4, 2, []Window{{0, 1, 4}, {2, 4, 6}, {4, 6, 8}, {6, 8, 10}}},
		{10, 4, 3, []Window{{0, 1, 4}, {3, 4, 7}, {6, 7, 10}}},
		{9, 4, 3, []Window{{0, 1, 4}, {3, 4, 7}, {5, 7, 9}}}, // the last has one more token of context
		{10, 2, 1, []Window{{0, 1, 2}, {1, 2, 3}, {2, 3, 4}, {3, 4, 5}, {4, 5, 6}, {5, 6, 7}, {6, 7, 8}, {7, 8, 9}, {8, 9, 10}}},
		{10, 100, 50, []Window{{0, 1, 10}}},
		{1, 4, 2, nil}, // nothing predicts the first token
		{0, 4, 2, nil},
	} {
		got, err := Windows(c.n, c.window, c.stride)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("Windows(%d, %d, %d) = %v, %v: want %v", c.n, c.window, c.stride, got, err, c.want)
		}
	}
	for _, c := range [][2]int{{4, 4}, {4, 5}, {4, 0}, {4, -1}, {1, 1}, {0, 0}} {
		if _, err := Windows(10, c[0], c[1]); err == nil {
			t.Errorf("window %d, stride %d is taken", c[0], c[1])
		}
	}
}

func TestWindowsScoreEachTokenOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 200).Draw(t, "n")
		window := rapid.IntRange(2, 50).Draw(t, "window")
		stride := rapid.IntRange(1, window-1).Draw(t, "stride")
		list, err := Windows(n, window, stride)
		if err != nil {
			t.Fatal(err)
		}
		scored := make([]int, n)
		for i, w := range list {
			if w.From < 0 || w.Score <= w.From || w.To > n || w.To-w.From > window {
				t.Fatalf("window %v of %d tokens", w, n)
			}
			if i > 0 && i < len(list)-1 && w.From-list[i-1].From != stride {
				t.Fatalf("windows %v, %v: want stride %d", list[i-1], w, stride)
			}
			for at := w.Score; at < w.To; at++ {
				scored[at]++
			}
		}
		for at, times := range scored {
			if want := min(at, 1); times != want {
				t.Fatalf("token %d of %d is scored %d times", at, n, times)
			}
		}
	})
}
