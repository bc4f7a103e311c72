package attn

import "math/rand/v2"

// Info describes a mechanism: what it is, what it wants, what it promises and what it costs.
type Info struct {
	Name     string // canonical spelling with options, as the registry parses it
	Family   string // full, sliding, sparse, linear, or an author's own
	Title    string // the paper's name of the method
	Paper    string // authors, year, identifier
	Year     int
	Revision int // raised when results change; part of result keys

	Masks        Mask   // the set that Forward supports; the attention layer refuses others
	Approximates bool   // meant to approximate full attention: fidelity is measured only then
	Budget       string // of an approximation: the integer option that says how much it keeps (a window, features, landmarks); empty for none
	Inference    bool   // only at inference, on a model trained with another mechanism
	SeesQuestion bool   // of an evicting method: it has seen the question before it evicts
	Appends      bool   // of an evicting method: it lets go of tokens of the prompt alone, and keeps all behind it, which Cost's State does not count
	Selects      bool   // chooses keys by content (hard selection)
	Aux          bool   // adds an auxiliary loss of its own to Call.Aux, a mean over the call's queries
	Couples      Coupling
	Decode       DecodeEquality
	// RotatesInside: the layer leaves q and k un-rotated and passes the rotation in Call.Rope.
	RotatesInside bool
	// Tolerance is what float32 may lose against the definition, relative to the largest output; 0 means the kit's own, 5e-5. It is
	// for a definition that divides by a sum whose terms may cancel.
	Tolerance float64
	// BFloat16: queries, keys, values and weights are rounded to bfloat16 where they are multiplied. Tolerance then bounds what that loses, in the
	// gradients too, and the products may be faster than those of float32.
	BFloat16 bool
	Quick    bool // part of the quick main job: at most 8 mechanisms are

	Inputs  []Input  // in the pipeline's order; QKV() is the default
	Learned []Tensor // trained with the model
	Buffers []Tensor // not reached by gradients; checkpointed
	Output  Output   // what the layer does to the output before the last projection

	// CheckShape reports a shape that this mechanism cannot compute; nil accepts all.
	CheckShape func(Shape) error
	// Carry returns how many numbers of recurrent state a segment takes in and gives out
	// (Call.Initial, Call.Final); nil for mechanisms without.
	Carry func(Shape) int
	// Cost returns the closed-form costs of one pass over a shape at full length.
	Cost func(Shape, Pass) Cost
	// Limits are settings at which the mechanism equals another one exactly.
	Limits []Limit
}

// QKV returns the default inputs: q rotated, k rotated, v plain.
func QKV() []Input {
	return []Input{
		{Name: "q", From: QuerySide, Heads: QueryHeads, Width: KeyWidth, Rotary: true},
		{Name: "k", From: MemorySide, Heads: KVHeads, Width: KeyWidth, Rotary: true},
		{Name: "v", From: MemorySide, Heads: KVHeads, Width: ValueWidth},
	}
}

// Input declares one input. The attention layer builds its projection from the declaration
// alone, in this order: shift, projection (through Rank), short convolution, activation, scale, norm, rotation.
type Input struct {
	Name     string
	From     Source
	Optional bool            // the call may leave it empty
	Tied     string          // has the values of that input, and no projection of its own
	Heads    func(Shape) int // nil means QueryHeads
	Width    func(Shape) int // per head; nil means KeyWidth
	Rank     int             // project through this width; 0 means directly
	RankAct  Activation      // between the two projections of a low rank
	RankNorm Norm            // between the two, over the rank, after RankAct
	Bias     bool            // on the (last) projection
	Shift    bool            // token shift: a learned mix of this token and the one before, per channel
	Conv     int             // width of a causal depthwise convolution; 0 for none
	ConvBias bool            // a bias a channel on the convolution
	Act      Activation
	Scale    float64 // multiplies after the activation; 0 means 1
	Norm     Norm    // per head
	Rotary   bool    // rotated by the layer (its Rope decides how many dims), unless RotatesInside
	Init     Init    // of the projection's bias, if any; nil means zeros
}

func (in *Input) isDefault() bool { return in.Name == "q" || in.Name == "k" || in.Name == "v" }

func (in *Input) heads(s Shape) int {
	if in.Heads == nil {
		return s.Heads
	}
	return in.Heads(s)
}

func (in *Input) width(s Shape) int {
	if in.Width == nil {
		return s.KeyDim
	}
	return in.Width(s)
}

// Size returns the heads and the width a head of the input at shape s.
func (in *Input) Size(s Shape) (heads, width int) { return in.heads(s), in.width(s) }

// The usual head counts and widths of inputs.
var (
	QueryHeads = func(s Shape) int { return s.Heads }
	KVHeads    = func(s Shape) int { return s.KVHeads }
	OneHead    = func(Shape) int { return 1 }
	KeyWidth   = func(s Shape) int { return s.KeyDim }
	ValueWidth = func(s Shape) int { return s.ValueDim }
	OneWide    = func(Shape) int { return 1 }
)

// Source is the sequence that an input is projected from.
type Source uint8

const (
	QuerySide  Source = iota // the sequence that asks
	MemorySide               // the sequence that is attended to; the same in self-attention
	FirstLayer               // the memory side: what the input named by Tied was in the model's first layer
)

// Activation names an elementwise function; the empty one is the identity.
type Activation string

// Activations that the layer knows.
const (
	SiLU       Activation = "silu"
	Sigmoid    Activation = "sigmoid"
	LogSigmoid Activation = "logsigmoid"
	Softplus   Activation = "softplus"
	Tanh       Activation = "tanh"
	ReLU       Activation = "relu"
)

// Norm names a normalisation over the width of a head; the empty one does nothing.
type Norm string

// Norms that the layer knows. RMSNorm has a learned gain of the head's width, L2Norm none.
const (
	RMSNorm Norm = "rms"
	L2Norm  Norm = "l2"
)

// Output declares what the layer does between the mechanism and the output projection.
type Output struct {
	Act       Activation      // before all else
	Norm      Norm            // with a gain for each element normalised together
	NormHeads func(Shape) int // heads that are normalised together; nil means each alone
	Gate      Activation      // multiplies by Gate(W_g x) elementwise; empty for none
	GateFirst bool            // gate before the norm
}

// Tensor declares a learned tensor or a buffer.
type Tensor struct {
	Name  string
	Shape func(Shape) []int
	Init  Init // nil means zeros
	Decay bool // weight decay applies
	// Shared: the layers of a model that have this mechanism have one tensor in common; its Shape must not depend on the layer.
	Shared bool
}

// Len returns the number of elements at shape s.
func (t *Tensor) Len(s Shape) int {
	n := 1
	for _, d := range t.Shape(s) {
		n *= d
	}
	return n
}

// Init fills a fresh tensor.
type Init func(s Shape, dst []float32, r *rand.Rand)

// Const returns an Init that sets every element to x.
func Const(x float32) Init {
	return func(_ Shape, dst []float32, _ *rand.Rand) {
		for i := range dst {
			dst[i] = x
		}
	}
}

// Normal returns an Init that draws from a normal distribution of mean 0.
func Normal(std float64) Init {
	return func(_ Shape, dst []float32, r *rand.Rand) {
		for i := range dst {
			dst[i] = float32(std * r.NormFloat64())
		}
	}
}

// Coupling says which heads of a batch row influence one another's outputs.
type Coupling uint8

const (
	CouplesNone  Coupling = iota // each query head stands alone
	CouplesGroup                 // the query heads of one key/value head
	CouplesHeads                 // all heads
)

func (c Coupling) String() string {
	return [...]string{"none", "group", "heads"}[c]
}

// DecodeEquality says when Extend gives what Forward gives.
type DecodeEquality uint8

const (
	DecodeAlways    DecodeEquality = iota // however the tokens are cut
	DecodeSameSplit                       // with the prompt cut at the same place
	DecodeNever                           // decoding drops what Forward keeps
)

func (d DecodeEquality) String() string {
	return [...]string{"always", "same-split", "never"}[d]
}

// Pass names what is computed.
type Pass uint8

const (
	PassForward  Pass = iota // Forward at inference
	PassBackward             // Backward alone
	PassDecode               // Extend by QueryLen tokens onto a state of KeyLen - QueryLen
)

// Cost is what one pass over a Shape takes, in closed form, at full length (no padding).
type Cost struct {
	FLOPs     int64 // of the products that the definition needs, 2 a multiply-add, masked pairs excluded
	Bytes     int64 // that must move: inputs and state read once, outputs written once
	Shared    int64 // scratch bytes, whatever the number of workers
	PerWorker int64 // scratch bytes a worker: the pass takes Shared + GOMAXPROCS·PerWorker
	Saved     int64 // bytes that Forward leaves in Call.Saved (PassForward with Saved set)
	State     int64 // bytes that the decoding state of KeyLen tokens retains
	Read      int64 // bytes of it that decoding one more token reads, of all rows
}

// Limit is a setting at which a mechanism equals another.
type Limit struct {
	Spec   func(Shape) string // spelling of this mechanism at the limit
	Equals string             // spelling of the other
	// Prepare, unless nil, sets inputs to the values that the limit asks for.
	Prepare func(*Call64)
	// Convert, unless nil, turns the call into one that the other mechanism takes (its declared
	// inputs); the outputs are compared.
	Convert func(*Call64) *Call64
}
