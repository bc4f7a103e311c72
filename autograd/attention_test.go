package autograd

import (
	"errors"
	"strings"
	"testing"

	"attnbench/attn"
)

// penalised returns its values scaled by its learned number, and an auxiliary loss of ½Σq². It counts its updates in a buffer.
type penalised struct{ info *attn.Info }

func newPenalised() penalised {
	one := func(attn.Shape) []int { return []int{1} }
	return penalised{&attn.Info{
		Name: "penalised", Masks: attn.Causal, Inputs: attn.QKV(),
		Learned: []attn.Tensor{{Name: "w", Shape: one}}, Buffers: []attn.Tensor{{Name: "n", Shape: one}},
	}}
}

func (m penalised) Info() attn.Info { return *m.info }

func (m penalised) Forward(_ *attn.Workspace, c *attn.Call) error {
	if err := c.Check(m.info); err != nil {
		return err
	}
	saved := c.Learned[0]
	if c.Saved != nil {
		saved = c.Saved.Floats(1)
		saved[0] = c.Learned[0][0]
	}
	for i, x := range c.V.Data {
		c.Out.Data[i] = x * saved[0]
	}
	for _, x := range c.Q.Data {
		if c.Aux != nil {
			*c.Aux += x * x / 2
		}
	}
	return nil
}

func (m penalised) Backward(_ *attn.Workspace, c *attn.Call, g *attn.Grads) error {
	if err := errors.Join(c.Check(m.info), g.Check(m.info, c)); err != nil {
		return err
	}
	for i, d := range g.Out.Data {
		g.V.Data[i] += d * c.Saved.Part(0)[0]
		g.Learned[0][0] += d * c.V.Data[i]
	}
	for i, x := range c.Q.Data {
		g.Q.Data[i] += g.Aux * x
	}
	return nil
}

func (m penalised) Update(_ *attn.Workspace, c *attn.Call) error {
	c.Buffers[0][0]++
	return nil
}

func TestAttentionPassesEverything(t *testing.T) {
	m := newPenalised()
	tape := NewTape(attn.NewWorkspace())
	q, k, v, w := []float32{1, 2, 3, 4}, []float32{0, 0, 0, 0}, []float32{5, 6, 7, 8}, []float32{3}
	buffer := []float32{0}
	for step := range 3 {
		tape.Reset()
		dq, dk, dv, dw := make([]float32, 4), make([]float32, 4), make([]float32, 4), make([]float32, 1)
		aux := tape.Zeros(1, 1)
		before := tape.Bytes()
		out, err := tape.Attention(&AttentionCall{
			Mech: m, Info: m.info, Shape: attn.Shape{Batch: 1, QueryLen: 2, KeyLen: 2, Heads: 2, KVHeads: 2, KeyDim: 1, ValueDim: 1, Mask: attn.Causal},
			Inputs:  []Var{tape.Input(q, dq, 2, 2), tape.Input(k, dk, 2, 2), tape.Input(v, dv, 2, 2)},
			Learned: []Var{tape.Input(w, dw, 1, 1)}, Buffers: [][]float32{buffer}, Aux: aux, Train: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		if n := tape.Bytes() - before; n != 2*64 { // the output and what the mechanism saved, a cache line each
			t.Errorf("%d bytes kept: want 128", n)
		}
		near(t, "output", tape.Value(out), 15, 18, 21, 24)
		near(t, "auxiliary loss", tape.Value(aux), 15)
		loss := tape.Add(tape.Sum(out), tape.Scale(aux, 2))
		if err := tape.Backward(loss); err != nil {
			t.Fatal(err)
		}
		near(t, "dq", dq, 2, 4, 6, 8)
		near(t, "dk", dk, 0, 0, 0, 0)
		near(t, "dv", dv, 3, 3, 3, 3)
		near(t, "dw", dw, 26)
		if err := m.Update(tape.Workspace(), tape.LastCall(tape.Calls()-1)); err != nil {
			t.Fatal(err)
		}
		near(t, "buffer", buffer, float64(step+1))
	}
	if tape.LastCall(1) != nil {
		t.Error("a call that was not made")
	}
}

// forwardOnly hides Backward.
type forwardOnly struct{ m penalised }

func (f forwardOnly) Info() attn.Info                                { return f.m.Info() }
func (f forwardOnly) Forward(ws *attn.Workspace, c *attn.Call) error { return f.m.Forward(ws, c) }

func TestAttentionErrors(t *testing.T) {
	m := newPenalised()
	tape := NewTape(attn.NewWorkspace())
	v := tape.Input(make([]float32, 4), make([]float32, 4), 2, 2)
	call := AttentionCall{
		Mech: m, Info: m.info, Shape: attn.Shape{Batch: 1, QueryLen: 2, KeyLen: 2, Heads: 2, KVHeads: 2, KeyDim: 1, ValueDim: 1, Mask: attn.Cross},
		Inputs: []Var{v, v, v}, Learned: []Var{tape.Zeros(1, 1)}, Buffers: [][]float32{{0}},
	}
	for _, f := range []struct {
		change func(c *AttentionCall)
		want   string
	}{
		{func(c *AttentionCall) {}, "mask is cross: want causal"},
		{func(c *AttentionCall) { c.Inputs = c.Inputs[:2] }, "2 inputs: want 3"},
		{func(c *AttentionCall) { c.Mech = forwardOnly{m} }, "no backward pass"},
	} {
		c := call
		f.change(&c)
		if _, err := tape.Attention(&c); err == nil || !strings.Contains(err.Error(), f.want) {
			t.Errorf("error %v: want %q in it", err, f.want)
		}
	}
	if _, err := tape.Extend(&call, nil); err == nil || !strings.Contains(err.Error(), "want a mechanism that decodes") {
		t.Errorf("extending a mechanism without a state: %v", err)
	}
}
