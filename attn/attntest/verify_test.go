package attntest

import (
	"context"
	"errors"
	"strings"
	"testing"

	"attnbench/attn"
)

// late is a mechanism that is right for short sequences and faulty for long ones.
type late struct {
	rec
	fault string
}

const lateFrom = 300 // tokens

func (m late) Forward(ws *attn.Workspace, c *attn.Call) error {
	if err := m.rec.Forward(ws, c); err != nil || c.KeyLen < lateFrom || c.QueryLen < lateFrom {
		return err
	}
	switch m.fault {
	case "drifts":
		c.Out.Row(0, c.QueryLen-1, 0)[0] *= 1.01
	case "ends in the middle with a NaN":
		c.Out.Row(0, c.QueryLen/2, 0)[0] = nan
	}
	return nil
}

func (m late) Info() attn.Info {
	info := m.rec.Info()
	info.Appends = m.fault == "declares to append"
	return info
}

func (m late) NewState(s attn.Shape) (attn.State, error) {
	st, err := m.rec.NewState(s)
	return &lateState{State: st, fault: m.fault}, err
}

func (m late) Extend(ws *attn.Workspace, s attn.State, c *attn.Call) error {
	l := s.(*lateState)
	if err := m.rec.Extend(ws, l.State, c); err != nil || l.Len(0) < lateFrom || c.QueryLen == 0 {
		return err
	}
	out := c.Out.Row(0, c.QueryLen-1, 0)
	switch m.fault {
	case "decoding drifts":
		out[0] *= 1.01
	case "decoding gives Inf":
		out[0] /= 0 * out[0] * out[0]
	case "holds on to memory":
		l.kept = append(l.kept, make([]byte, 1<<10))
	}
	return nil
}

type lateState struct {
	attn.State
	fault string
	kept  [][]byte
}

func (s *lateState) Bytes() int64 {
	n := s.State.Bytes()
	if s.fault == "retains more" && s.Len(0) > 1000 {
		n++
	}
	return n
}

func TestLongFaultsAreCaught(t *testing.T) {
	for _, f := range []struct{ fault, check, want string }{
		{"", "", ""},
		{"drifts", "stability", "the last 8 of 700 tokens against the definition"},
		{"ends in the middle with a NaN", "stability", "a pass over 700 tokens: NaN"},
		{"decoding drifts", "stability", "mixed pieces against one pass"},
		{"decoding gives Inf", "stream", "token 299: "},
		{"retains more", "stream", "want no more"},
		{"holds on to memory", "stream", "the heap holds"},
		{"declares to append", "stream", "want more"},
	} {
		m := late{newRec(""), f.fault}
		found := map[string]error{}
		for _, c := range longChecks {
			k := newKit(m, m.define, CheckOptions{})
			k.tokens, k.stream = 700, 4096
			errs := k.run(c)
			found[c.name] = errors.Join(errs...)
			if f.fault == "" && len(k.notes) == 0 {
				t.Errorf("%s of a good mechanism looks at nothing", c.name)
			}
		}
		if f.fault == "" {
			if err := errors.Join(found["stability"], found["stream"]); err != nil {
				t.Errorf("no fault: %v", err)
			}
		} else if err := found[f.check]; err == nil || !strings.Contains(err.Error(), f.want) {
			t.Errorf("%s: check %s: got %v: want %s", f.fault, f.check, err, f.want)
		}
	}
}

// Verify runs every check as often as there are seeds, the long ones once, and ends with its context.
func TestVerify(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the whole kit twice")
	}
	m := newSoft(soft{Window: 3})
	count := map[string]int{}
	o := VerifyOptions{Seeds: 2, Tokens: 200, Stream: 2048}
	err := Verify(context.Background(), m, m.define, o, func(r Result) {
		count[r.Check]++
		if r.Err != nil {
			t.Errorf("%s: %v", r.Check, r.Err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range Names() {
		if count[name] != 2 {
			t.Errorf("%s was run %d times: want 2", name, count[name])
		}
	}
	if count["stability"] != 1 || count["stream"] != 1 {
		t.Errorf("long checks: %v", count)
	}
	ctx, cancel := context.WithCancel(context.Background())
	err = Verify(ctx, m, m.define, o, func(Result) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a verification that is stopped: %v", err)
	}
}
