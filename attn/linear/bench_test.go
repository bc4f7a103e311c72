package linear

import (
	"testing"
	"time"

	"attnbench/attn"
	"attnbench/internal/kernel"
)

// peak is the multiply-add rate of one core, FLOP/s, measured now.
func peak() float64 {
	start := time.Now()
	n := kernel.FMALoop(1 << 22)
	return float64(n) / time.Since(start).Seconds()
}

func BenchmarkPasses(b *testing.B) {
	for _, spec := range []string{"linear", "gla"} {
		for _, pass := range []string{"forward", "backward", "decode"} {
			b.Run(pass+"/mech="+spec, func(b *testing.B) {
				procs(b, 1)
				m := newMech(b, spec)
				s := attn.Shape{Batch: 1, QueryLen: 2048, KeyLen: 2048, Heads: 8, KVHeads: 8, KeyDim: 64, ValueDim: 64, Mask: attn.Causal}
				c := newCall(m, s, 1, 0.1)
				ws, arena := attn.NewWorkspace(), new(attn.Arena)
				st, _ := m.NewState(s)
				g := newGrads(c, 1)
				one := piece(c, 0, 1)
				if pass == "backward" {
					c.Saved = attn.NewSaved(arena)
				}
				m.Forward(ws, c)
				info := m.Info()
				flops := float64(info.Cost(s, attn.PassForward).FLOPs)
				switch pass {
				case "backward":
					flops = float64(info.Cost(s, attn.PassBackward).FLOPs)
				case "decode":
					flops = float64(info.Cost(one.Shape, attn.PassDecode).FLOPs)
				}
				top := peak()
				for b.Loop() {
					switch pass {
					case "forward":
						m.Forward(ws, c)
					case "backward":
						m.Backward(ws, c, g)
					default:
						m.Extend(ws, st, one)
					}
				}
				top = (top + peak()) / 2
				b.ReportMetric(100*flops*float64(b.N)/b.Elapsed().Seconds()/top, "%peak")
			})
		}
	}
}
