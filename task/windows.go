package task

import "fmt"

// Window is one row of an evaluation: it spans tokens From to To-1 of the text, and is scored on
// tokens Score to To-1; those before are context.
type Window struct {
	From, Score, To int
}

// Windows cuts a text of n tokens into windows that span the given number of tokens, stride apart, so
// that each token but the very first, which nothing predicts, is scored exactly once. The stride
// must be smaller than the window: the first token of a window has no prediction in it, and
// only an overlap gives it one. The last window ends with the text, with more context than the
// others where they would not fit.
func Windows(n, window, stride int) ([]Window, error) {
	if window < 2 {
		return nil, fmt.Errorf("window of %d tokens: want at least 2", window)
	}
	if stride < 1 || stride >= window {
		return nil, fmt.Errorf("stride of %d tokens: want 1 to %d, less than the window: a token must be scored by a window that holds the one before it", stride, window-1)
	}
	var list []Window
	for scored := 1; scored < n; {
		w := Window{Score: scored}
		if len(list) > 0 {
			w.From = min(list[len(list)-1].From+stride, max(0, n-window))
		}
		w.To = min(w.From+window, n)
		list, scored = append(list, w), w.To
	}
	return list, nil
}
