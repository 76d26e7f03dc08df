package base

import (
	"reflect"
	"testing"

	"aesthetic.computer/isofs/partition"
)

func TestEmptyBlocksAreFreeAndOfZeroes(t *testing.T) {
	m := &Manifest{BlockSize: 4096, PiecePartitionOffset: 10 * 4096, Blocks: make([]Hash, 12)}
	for i := range m.Blocks {
		m.Blocks[i] = m.zeroBlock()
	}
	m.Blocks[3] = Hash{1}
	got := m.findEmpty([]partition.Span{{Offset: 4095, Size: 5 * 4096}, {Offset: 6*4096 + 1, Size: 4096}, {Offset: 8 * 4096, Size: 4 * 4096}})
	if want := []BlockRun{{1, 2}, {4, 1}, {8, 2}}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := m.findEmpty([]partition.Span{{Offset: 0, Size: 4096}, {Offset: 4096, Size: 4096}}); !reflect.DeepEqual(got, []BlockRun{{0, 2}}) {
		t.Errorf("adjacent: %v", got)
	}
}
