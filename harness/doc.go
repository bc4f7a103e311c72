// Package harness measures attention mechanisms: the time of prefill, training step and decoding
// against the machine's limit measured in the same run, exact memory, fidelity, and accuracy on tasks.
//
// A measurement is a Cell; Measure runs one and returns a results.Record, Sweep runs many into a store,
// Quick is the program's main job, and Bench is the same sweep under go test -bench.
// Mechanisms and tasks come from their registries: nothing here knows a particular one.
package harness
