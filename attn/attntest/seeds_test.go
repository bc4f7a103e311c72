package attntest

import "testing"

// The kit must not depend on its luck with one seed.
func TestOtherSeeds(t *testing.T) {
	if testing.Short() {
		t.Skip("repeats TestConformance")
	}
	for _, seed := range []uint64{2, 3, 1 << 40} {
		for _, m := range []soft{newSoft(soft{}), newSoft(soft{Window: 3}), newSoft(soft{Top: 3})} {
			if err := CheckWith(m, m.define, CheckOptions{Seed: seed, Short: true}); err != nil {
				t.Error(err)
			}
		}
		m := newRec("")
		if err := CheckWith(m, m.define, CheckOptions{Seed: seed, Short: true}); err != nil {
			t.Error(err)
		}
	}
}
