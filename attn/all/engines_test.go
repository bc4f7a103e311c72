package all

import (
	"math"

	"attnbench/attn"
)

// byHead passes once for each query head of a group: the first brings a stretch of keys into the nearest cache, the others find it there.
func byHead(group int) int64 { return int64(group) }

const lanes = 32

// tiles is the engine of 32 queries side by side. Where an edge of the mask crosses the tile it computes what the edge hides from
// some of the queries, on average 15.5 keys a query; lanes without a query compute too.
func tiles(edges int, bidirectionalEdges int) work {
	return work{passes: byHead, most: func(s attn.Shape, _ attn.Pass, pairs float64) float64 {
		n := edges
		if s.Mask != attn.Causal {
			n = bidirectionalEdges
		}
		idle := (lanes - s.QueryLen%lanes) % lanes
		return 1 + (float64(n)*(lanes-1)/2*float64(s.QueryLen)+float64(idle*s.KeyLen))/pairs
	}}
}

// biased is the engine of tiles where the distance to a key is added to its score.
var biased = func() work {
	w := tiles(1, 0)
	w.pair = 2
	return w
}()

// forgets also sums the log decays of a head and token in a decoding step, outside products.
var forgets = func() work {
	w := biased
	w.reads = func(s attn.Shape, read int64) int64 {
		return int64(s.Heads/s.KVHeads) * (read - int64(4*s.Batch*s.Heads*s.KeyLen))
	}
	return w
}()

// differs takes the values once for each half.
var differs = func() work {
	w := tiles(1, 0)
	w.most = func(s attn.Shape, p attn.Pass, pairs float64) float64 {
		return tiles(1, 0).most(s, p, pairs*float64(s.KeyDim+s.ValueDim)/float64(s.KeyDim+2*s.ValueDim))
	}
	w.reads = func(s attn.Shape, read int64) int64 {
		return int64(s.Heads/s.KVHeads) * (read + int64(4*s.Batch*s.KVHeads*s.KeyLen*s.ValueDim))
	}
	return w
}()

// latents writes keys and values out over many queries. In a decoding step every head goes through the latents, twice, and through
// its weights; the default widths are 4 value dims and a third of the key dim.
var latents = func() work {
	w := tiles(1, 0)
	w.reads = func(s attn.Shape, read int64) int64 {
		r, dr := 4*s.ValueDim, s.KeyDim/3&^1
		return int64(4 * s.Batch * s.Heads * (s.KeyLen*(2*r+dr) + r*(s.KeyDim-dr+s.ValueDim)))
	}
	return w
}()

// all computes the scores of all pairs.
var all = work{passes: byHead, most: func(s attn.Shape, _ attn.Pass, pairs float64) float64 {
	return float64(s.QueryLen*s.KeyLen) / pairs
}}

// chunks is the engine of recurrences. Forward it takes 32 tokens at a time, of which it computes at most all pairs and
// weighs their values, 2 products; backward so many as a chunk has, 5 products, and once more what a chunk gives to the state's
// gradient when chunks run in parallel.
func chunks(chunk int) work {
	return work{
		writes: true,
		passes: func(group int) int64 { return int64(group) + 1 }, // the update, then a read a query head
		most: func(s attn.Shape, p attn.Pass, _ float64) float64 {
			dk, dv, share := float64(s.KeyDim), float64(s.ValueDim), float64(s.Heads)/float64(s.Heads+s.KVHeads)
			switch {
			case s.Mask != attn.Causal:
				return 1
			case p == attn.PassForward:
				return 1 + share*lanes*(dk+dv)/(dk*dv)
			}
			return 1 + share*(float64(chunk)*(3*dk+2*dv)/(2*dk*dv)+0.5)
		},
	}
}

// deltas is the engine of delta rules: chunks, where the keys read the state as one more query head does, and write once or, where
// they erase apart, twice.
func deltas(chunk, writes int) work {
	return work{
		writes: true,
		passes: func(group int) int64 { return int64(group + 1 + writes) }, // the read of the key, the updates, then a read a query head
		most: func(s attn.Shape, p attn.Pass, _ float64) float64 {
			dk, dv, share := float64(s.KeyDim), float64(s.ValueDim), float64(s.Heads+s.KVHeads)/float64(s.Heads+(1+writes)*s.KVHeads)
			if p == attn.PassForward {
				return 1 + share*lanes*(dk+dv)/(dk*dv)
			}
			return 1 + share*float64(writes*chunk)*(3*dk+2*dv)/(2*dk*dv)
		},
	}
}

// solved is the engine of steps of conjugate gradients on a state of [H G]: an update, then each query goes through H for its start,
// for every step and in place of reading it, and through G once.
func solved(steps int) work {
	return work{
		writes: true,
		passes: byUpdate,
		most: func(s attn.Shape, p attn.Pass, _ float64) float64 {
			if p == attn.PassForward {
				return 1 + 2*8/float64(s.KeyDim) // tokens solved side by side see each other
			}
			return 1 + 0.01 // the copies of tokens' gradients
		},
		reads: func(s attn.Shape, read int64) int64 {
			return byUpdate(s.Heads/s.KVHeads)*read + int64(4*s.Batch*s.Heads)*int64(steps*s.KeyDim*(s.KeyDim+5))
		},
	}
}

// trained is the engine of a model that a step of gradient descent for every batch of tokens trains: keys and queries go through both halves of
// its state, the model and the sums of gradients, and rows have sums of their own. Of the pairs of a batch it computes all.
func trained(batch int) work {
	return work{
		writes: true,
		passes: byUpdate,
		most: func(s attn.Shape, p attn.Pass, _ float64) float64 {
			hidden, h, kv := float64(batch-1)/float64(s.KeyDim), float64(s.Heads), float64(s.KVHeads)
			if p == attn.PassForward {
				return 1 + h*hidden/(h+2*kv)
			}
			return 1 + h*3*hidden/(3*h+5*kv)
		},
		reads: func(s attn.Shape, read int64) int64 {
			return byUpdate(s.Heads/s.KVHeads)*read + int64(4*s.Batch*s.KeyDim*(6*s.KVHeads+3*s.Heads))
		},
	}
}

// byUpdate is an update, then a read a query head.
func byUpdate(group int) int64 { return int64(group) + 1 }

// apart is e where each query head has a state of its own.
func apart(e work) work {
	most := e.most
	e.most = func(s attn.Shape, p attn.Pass, pairs float64) float64 {
		s.KVHeads = s.Heads
		return most(s, p, pairs)
	}
	e.passes = func(int) int64 { return 2 }
	e.apart = true
	return e
}

// bonus is e where the own token is weighed apart from the state: a product of the key's width and one of the value's, a query.
func bonus(e work) work {
	most := e.most
	e.most = func(s attn.Shape, p attn.Pass, pairs float64) float64 {
		return most(s, p, pairs) + float64(s.KeyDim+s.ValueDim)/float64(s.KeyDim*s.ValueDim)
	}
	return e
}

// slots is the engine of recurrences twice, once over keys and once over values. Backward goes through the keys forward too: half as
// many operations as are declared for them.
func slots(chunk int) work {
	e := chunks(chunk)
	most := e.most
	e.most = func(s attn.Shape, p attn.Pass, pairs float64) float64 {
		x, n := most(s, p, pairs), float64(s.KeyDim)
		s.ValueDim = s.KeyDim // the narrower of the two is the dearer
		x = max(x, most(s, p, pairs))
		if p == attn.PassBackward {
			x += 0.5 * n / (n + float64(s.ValueDim)) * most(s, attn.PassForward, pairs)
		}
		return x
	}
	return e
}

// levels is the engine of states apart by distance. In a block of 32 tokens, forward, half of the pairs are hidden; backward their 5
// products for the declared 4 are of whole blocks, at most 2.5 times as much as declared when keys are as wide as values, and merging
// asks for a third product.
var levels = work{
	passes: func(int) int64 { return 1 },
	apart:  true,
	most: func(_ attn.Shape, p attn.Pass, _ float64) float64 {
		if p == attn.PassForward {
			return 2
		}
		return 2.6
	},
}

// features is the engine of recurrences over features, of which each row reads so many floats of weights.
func features(weights func(s attn.Shape) int) work {
	w := chunks(64)
	w.reads = func(s attn.Shape, read int64) int64 {
		return w.passes(s.Heads/s.KVHeads)*read + int64(4*s.Batch*(s.Heads+s.KVHeads)*weights(s))
	}
	return w
}

func none(attn.Shape) int { return 0 }

// engines are the mechanisms' engines, by name; options may change the number of edges.
var engines = map[string]work{
	"full": tiles(1, 0), "full:precision=bf16": tiles(1, 0), "blocksparse": tiles(1, 0), "bigbird": tiles(1, 0), "sliding": tiles(2, 2),
	"sliding:window=100,sinks=4": tiles(2, 3), // at the sinks, an edge only where the window leaves them
	"differential":               differs, "forgetting": forgets, "gated": tiles(1, 0), "gated:gate=head": tiles(1, 0), "mla": latents,
	"alibi": biased, "softcap": tiles(1, 0), "sinklogit": tiles(1, 0),
	"fixed":     tiles(1, 0), // blocks of 128 begin and end with a tile
	"strided":   tiles(5, 0), // the window's two, and those of a stripe every 128 keys: 1.5 of 512 keys, on average
	"naive":     all,
	"sigmoid":   tiles(1, 0), // by rows: below the tiles' waste
	"cosformer": features(none), "based": features(none), "rebased": features(none),
	"hedgehog":  features(func(s attn.Shape) int { return s.KeyDim * s.KeyDim }),
	"performer": features(func(s attn.Shape) int { return s.KeyDim * int(float64(s.KeyDim)*math.Log(float64(s.KeyDim))) }),
	"linear":    chunks(64), "linear:chunk=32,map=relu,normalize=false": chunks(32),
	"gla": chunks(64), "gla:chunk=16": chunks(16),
	"topk": chosen, "moba": chosen, "moba:block=64,k=2": chosen,
	"sliding:window=100,sinks=4,positions=cache": tiles(3, 3),
	"longformer": tiles(3, 3), "longformer:window=60,global=70": tiles(4, 4),
	"nsa": branched, "dsa": branched, "quest:dense=0,budget=128": chosen,
	"deltanet": deltas(64, 1), "deltanet:chunk=16": deltas(16, 1), "gateddeltanet": deltas(64, 1), "kda": deltas(64, 1),
	"kda:chunk=16": deltas(16, 1), "rwkv7": deltas(64, 2), "rwkv7:chunk=16": deltas(16, 2), "mesanet": solved(30),
	"retnet": chunks(64), "lightning": chunks(64), "hgrn2": chunks(64), "rwkv6": bonus(chunks(64)), "mamba2": apart(chunks(64)),
	"gsa": slots(64), "loglinear": levels, "ttt": trained(16), "ttt:batch=40": trained(40), "routing": gathered, "routing:window=32,clusters=7": gathered,
}

// chosen is an engine whose query heads choose keys by content.
var chosen = work{passes: byHead, upTo: true, most: func(attn.Shape, attn.Pass, float64) float64 { return 2 }}

// gathered is an engine of whole tiles: queries and keys are brought together first.
var gathered = work{passes: byHead, most: func(attn.Shape, attn.Pass, float64) float64 { return 1 }}

// branched is one of several branches, which read what they have in common each.
var branched = func() work {
	w := chosen
	w.passes = func(group int) int64 { return 3 * int64(group) }
	return w
}()

// unlisted is for a mechanism that has no engine here yet: nothing left out, nothing done four times.
var unlisted = work{passes: byHead, most: func(attn.Shape, attn.Pass, float64) float64 { return 4 }}

// small is what is done beside products of the sizes above, as a share: the sums of do·o of a backward pass, the decays
// that are weak, a state's scan.
const small = 0.02
