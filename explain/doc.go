// Package explain shows what the attention of a trained model does with a text: how much each output takes from each value, and the
// steps from similarities over weights to the weighted sum, in the numbers of one query.
//
// Every mechanism is looked at alike, by what it computes. The weight of key j for query i is the effective one, w[i,j] of
//
//	d out[i] / d v[j] = w[i,j] · I
//
// and where that derivative is no multiple of the identity, the mean of its diagonal (Off says how much of it that leaves out).
package explain
