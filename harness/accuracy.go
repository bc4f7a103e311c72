package harness

import "testing"

func (s *suite) accuracy(b *testing.B) {}
