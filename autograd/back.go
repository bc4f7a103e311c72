package autograd

const (
	opLinear opcode = iota + 1
	opMatMul
	opMatMulT
	opAdd
	opSub
	opMul
	opDiv
	opScale
	opShift
	opActivate
	opSwiGLU
	opRMSNorm
	opLayerNorm
	opL2Norm
	opSoftmax
	opCausalMask
	opScores
	opWeigh
	opReshape
	opTranspose
	opSliceRows
	opSliceCols
	opConcatRows
	opConcatCols
	opGather
	opCumsum
	opShortConv
	opTokenShift
	opRope
	opDropout
	opSum
	opSumCols
	opCrossEntropy
	opAttention
	opRecompute
	opLSTM
	opRecur
)

// back adds to the gradients of o's operands, from g, the gradient of its output. It may use up g.
func (t *Tape) back(o *op, g []float32) error {
	switch o.code {
	case opLinear:
		t.backLinear(o, g)
	case opMatMul, opMatMulT:
		t.backMatMul(o, g)
	case opAdd, opSub, opMul, opDiv:
		t.backBinary(o, g)
	case opScale:
		t.backScale(o, g)
	case opShift:
		t.give(o.a, g)
	case opActivate:
		t.blocks(o, g, t.nodes[o.out].rows, t.nodes[o.out].cols, slopeBlock)
		t.give(o.a, g)
	case opSwiGLU:
		t.backSwiGLU(o, g)
	case opRMSNorm, opLayerNorm, opL2Norm:
		t.backNorm(o, g)
	case opSoftmax:
		t.backSoftmax(o, g)
	case opCausalMask:
		t.backCausalMask(o, g)
	case opScores:
		t.backScores(o, g)
	case opWeigh:
		t.backWeigh(o, g)
	case opReshape:
		t.give(o.a, g)
	case opTranspose:
		t.backTranspose(o, g)
	case opSliceRows, opSliceCols:
		t.backSlice(o, g)
	case opConcatRows, opConcatCols:
		t.backConcat(o, g)
	case opGather:
		t.backGather(o, g)
	case opCumsum:
		t.backCumsum(o, g)
	case opShortConv:
		t.backShortConv(o, g)
	case opTokenShift:
		t.backTokenShift(o, g)
	case opRope:
		t.backRope(o, g)
	case opDropout:
		t.backDropout(o, g)
	case opSum:
		t.backSum(o, g)
	case opSumCols:
		t.backSumCols(o, g)
	case opCrossEntropy:
		t.backCrossEntropy(o, g)
	case opRecompute:
		return t.backRecompute(o, g)
	case opLSTM:
		t.backLSTM(o, g)
	case opRecur:
		t.backRecur(o, g)
	case opAttention:
		return t.backAttention(o, g)
	}
	return nil
}
