package base

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"aesthetic.computer/isofs/fault"
)

func TestVerifyReports(t *testing.T) {
	clean := newImage(t, standardSize, standard()...)
	addFile(t, addFAT(t, clean), "boot/vmlinuz", bytes.Repeat([]byte("kernel "), 2000))
	flip := func(at int64) func(*memDisk, *Manifest) {
		return func(d *memDisk, _ *Manifest) { d.data[at] ^= 1 }
	}
	for _, tt := range []struct {
		name   string
		change func(*memDisk, *Manifest)
		want   []string // the beginnings of the findings, in order
	}{
		{"nothing", func(*memDisk, *Manifest) {}, nil},
		{"first byte", flip(0), []string{"sha256: ", "block 0 (bytes 0..262143)", "midstates.sha256 at 4194304", "midstates.sha1", "zsync.sums: those of 1 blocks of 2048 bytes differ, first block 0:"}},
		{"in the slot", flip(4*mib + 4096), []string{"sha256: ", "block 16 (bytes 4194304..4456447)"}},
		{"before the slot", flip(4*mib - 1), []string{"sha256: ", "block 15 ", "midstates.sha256", "midstates.sha1", "zsync.sums: those of 1 blocks of 2048 bytes differ, first block 2047:"}},
		{"behind the slot", flip(5 * mib), []string{"sha256: ", "block 20 ", "tail: byte 5242880: "}},
		{"in the kernel", func(d *memDisk, m *Manifest) { d.data[m.BootFiles[0].Offset+9] ^= 1 },
			[]string{"sha256: ", "block ", "bootFiles: kernel", "midstates.sha256", "midstates.sha1", "zsync.sums"}},
		{"in the backup GPT", flip(standardSize - 400), []string{"sha256: ", "block 20 ", "tail: byte 5262960"}},
		{"in the primary GPT", flip(512 + 30), []string{"GPT: the primary GPT is damaged", "sha256: ", "block 0 ", "midstates", "midstates", "zsync.sums"}},
		{"lying block", func(_ *memDisk, m *Manifest) { m.Blocks[14][0] ^= 1 }, []string{"block 14 (bytes 3670016..3932159)"}},
		{"lying sha256", func(_ *memDisk, m *Manifest) { m.SHA256[0] ^= 1 }, []string{"sha256: "}},
		{"lying midstate", func(_ *memDisk, m *Manifest) { m.Midstates.SHA1 = strings.Repeat("00", 20) }, []string{"midstates.sha1"}},
		{"lying tail", func(_ *memDisk, m *Manifest) { m.Tail[77] ^= 1 }, []string{"tail: byte 5242957"}},
		{"lying slot", func(_ *memDisk, m *Manifest) {
			m.PiecePartitionOffset += 4096
			m.Tail = m.Tail[4096:]
			m.Zsync = nil
		}, []string{"slot: the GPT has it at [4194304, 5242880), the manifest at [4198400, 5246976)", "midstates", "midstates"}},
		{"lying zsync", func(_ *memDisk, m *Manifest) { m.Zsync.Sums[5] ^= 1; m.Zsync.Sums[6*300] ^= 1 },
			[]string{"zsync.sums: those of 2 blocks of 2048 bytes differ, first block 0:"}},
		{"no zsync", func(_ *memDisk, m *Manifest) { m.Zsync = nil }, nil},
		{"nothing known to be empty", func(_ *memDisk, m *Manifest) { m.Empty = nil }, nil},
		// A file whose blocks are of zeroes is not free space.
		{"lying empty", func(d *memDisk, m *Manifest) {
			clear(d.data[14*256<<10 : 15*256<<10])
			*m = *index(t, d)
			m.Empty = append(m.Empty, BlockRun{14, 1})
		}, []string{"empty: block 14 does not lie in the free space"}},
		{"truncated", func(d *memDisk, _ *Manifest) { d.data = d.data[:5*mib-512]; d.size = int64(len(d.data)) },
			[]string{"size: the image has 5242368 bytes, totalSize says 5263360", "GPT: ", "blocks: 2 of 21 lie behind the end of the image, from block 19 (byte 4980736) on"}},
		{"truncated before the slot", func(d *memDisk, _ *Manifest) { d.data = d.data[:mib]; d.size = mib },
			[]string{"size: ", "GPT: ", "blocks: 17 of 21"}},
		{"empty", func(d *memDisk, _ *Manifest) { d.data, d.size = nil, 0 }, []string{"size: ", "GPT: ", "blocks: 21 of 21"}},
		{"padded", func(d *memDisk, _ *Manifest) { d.data = append(d.data, 0); d.size++ }, []string{"size: ", "GPT: "}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newMemDisk(clean.size)
			copy(d.data, clean.data)
			m := index(t, d)
			tt.change(d, m)
			err := m.Verify(t.Context(), d, d.size, nil)
			if tt.want == nil {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var diff *VerifyError
			if !errors.As(err, &diff) || fault.Kind(err) != fault.Corrupt {
				t.Fatalf("got %v", err)
			}
			if len(diff.Findings) != len(tt.want) {
				t.Fatalf("%d findings, want %d:\n%v", len(diff.Findings), len(tt.want), err)
			}
			for i, want := range tt.want {
				if !strings.HasPrefix(diff.Findings[i], want) {
					t.Errorf("finding %d: %s, want %s", i, diff.Findings[i], want)
				}
			}
		})
	}
}

func TestVerifyLimitsItsFindings(t *testing.T) {
	d := newImage(t, standardSize, standard()...)
	m := index(t, d)
	for i := range m.Blocks {
		m.Blocks[i][5] ^= 1
	}
	err := m.Verify(t.Context(), d, d.size, nil)
	var diff *VerifyError
	if !errors.As(err, &diff) || len(diff.Findings) != maxFindings || diff.More != 1 || !strings.HasSuffix(err.Error(), "and 1 more") {
		t.Errorf("got %v", err)
	}
}

func TestVerifyFails(t *testing.T) {
	d := newImage(t, standardSize, standard()...)
	m := index(t, d)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Verify(ctx, d, d.size, nil); !errors.Is(err, context.Canceled) || fault.Kind(err) != fault.Unavailable {
		t.Errorf("cancelled: %v", err)
	}
	if err := m.Verify(t.Context(), &failing{d, 5000, errors.New("input/output error")}, d.size, nil); fault.Kind(err) != fault.Unavailable {
		t.Errorf("a failing disk: %v", err)
	}
	m.Blocks = m.Blocks[1:]
	if err := m.Verify(t.Context(), d, d.size, nil); fault.Kind(err) != fault.Corrupt || !strings.Contains(fmt.Sprint(err), "blocks has 20 hashes") {
		t.Errorf("a manifest that contradicts itself: %v", err)
	}
}
