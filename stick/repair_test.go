package stick

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"aesthetic.computer/isofs/fault"
)

// mark changes a byte, as a mounted file system does.
func mark(at ...int) func(m *memory) {
	return func(m *memory) {
		for _, off := range at {
			m.data[off] ^= 1
		}
	}
}

// A stick that something wrote to still has its base. It gets back the changed
// blocks, and nothing else.
func TestRepair(t *testing.T) {
	b := newBase(t, 1)
	old, wanted := publish(t, b, "notepat", "<p>old"), publish(t, b, "tone", "<p>new")
	for _, c := range []struct {
		what   string
		change func(m *memory)
		says   string // without Repair; "": it is updated as it is
	}{
		{"the dirty flag of a FAT", mark(mib + 65), "1 of its 323 blocks were changed"},
		{"a folder in a FAT, and the superblock of an ext4", mark(mib+70_000, 2*mib+1024+52, slotStart-4097), "3 of its 323 blocks"},
		{"a block that a quick look does not see", mark(3*mib + 70_000), "1 of its 323 blocks"},
		{"the boot code", mark(3), "1 of its 323 blocks"},
		{"the boot flag of the MBR", func(m *memory) { m.data[446] = 0x80 }, ""},
		{"Windows's signature in the MBR", func(m *memory) { copy(m.data[440:], "\xde\xad\xbe\xef") }, ""},
		{"both, and cylinders", func(m *memory) { copy(m.data[440:], "\xde\xad\xbe\xef\x00\x00\x80\x00\x02\x00\xee\xff\xff\xff") }, ""},
	} {
		stick := old.onStick()
		c.change(stick)
		before := bytes.Clone(stick.data)
		s := newServer(t, old, wanted)
		snap := s.resolve(t, "/tone-os.iso")
		u, err := Plan(t.Context(), stick, snap, Options{VerifyBase: true})
		if err == nil {
			err = u.Run(t.Context(), nil)
		}
		_, touched := errors.AsType[*TouchedError](err)
		if touched != (c.says != "") || err != nil && (!touched || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v, want %q", c.what, err, c.says)
		}
		if c.says == "" {
			copy(before[slotStart:], wanted.slot())
			if !bytes.Equal(stick.data, before) {
				t.Errorf("%s: more than the slot was written", c.what)
			}
			continue
		}
		if !bytes.Equal(stick.data, before) {
			t.Errorf("%s: something was written", c.what)
		}
		if v, err := Verify(t.Context(), stick, s.resolve(t, "/notepat-os.iso"), nil); err != nil || v.Touched == nil || !strings.Contains(v.Err().Error(), "--repair") {
			t.Errorf("%s: verified: %+v (%v)", c.what, v, err)
		}
		if u, err = Plan(t.Context(), stick, snap, Options{Repair: true}); err != nil {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		if err := u.Run(t.Context(), nil); err != nil || !bytes.Equal(stick.data, wanted.onStick().data) {
			t.Errorf("%s: repaired: %v", c.what, err)
		}
		for _, asked := range s.asked {
			if strings.Contains(asked, "-os.iso bytes=0-") && !strings.HasSuffix(asked, "bytes=0-16383") {
				t.Errorf("%s: the whole image was asked for: %s", c.what, asked)
			}
		}
	}
}

// edit changes the partition table with sgdisk.
func edit(t *testing.T, m *memory, args ...string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "stick")
	if err := os.WriteFile(file, m.data, 0o600); err != nil {
		t.Fatal(err)
	}
	tool(t, "sgdisk", append(args, file)...)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	m.data = data
}

// Names, GUIDs and flags of partitions do not make a base; their kind and place
// do.
func TestTableThatWasEdited(t *testing.T) {
	b := newBase(t, 1)
	old, wanted := publish(t, b, "notepat", "<p>old"), publish(t, b, "tone", "<p>new")
	s := newServer(t, old, wanted)
	for _, c := range []struct {
		args []string
		says string // "": it is updated
	}{
		{[]string{"-c", "1:other"}, ""},
		{[]string{"-c", "3:no slot by its name"}, ""},
		{[]string{"-A", "2:set:60", "-A", "3:set:63"}, ""},
		{[]string{"-U", "R", "-u", "1:R", "-u", "3:R"}, ""},
		{[]string{"-t", "1:0700"}, "partition 1 (EFI) is not at"},
		{[]string{"-h", "1"}, "1 of its 323 blocks"},
	} {
		stick := old.onStick()
		edit(t, stick, c.args...)
		before := bytes.Clone(stick.data)
		u, err := Plan(t.Context(), stick, s.resolve(t, "/tone-os.iso"), Options{VerifyBase: true})
		if err == nil {
			err = u.Run(t.Context(), nil)
		}
		if c.says != "" {
			if err == nil || !strings.Contains(err.Error(), c.says) || !bytes.Equal(before, stick.data) {
				t.Errorf("%q: %v, want %q", c.args, err, c.says)
			}
			continue
		}
		copy(before[slotStart:], wanted.slot())
		if err != nil || !bytes.Equal(before, stick.data) {
			t.Errorf("%q: %v", c.args, err)
		}
	}
}

// A stick is not repaired if it has another base, or if the repair would cost
// an added partition.
func TestNotRepaired(t *testing.T) {
	b := newBase(t, 1)
	old, wanted := publish(t, b, "notepat", "<p>old"), publish(t, b, "tone", "<p>new")
	other := publish(t, newBase(t, 2), "notepat", "<p>old")
	s := newServer(t, old, wanted)
	// A table that a tool moved, with a partition more or without.
	moved := func(args ...string) func(m *memory) {
		return func(m *memory) {
			edit(t, m, args...)
			m.data[3] ^= 1 // and the boot code, beside the table
		}
	}
	for _, c := range []struct {
		what   string
		change func(m *memory)
		says   string // "": it is repaired
	}{
		{"another base", func(m *memory) { copy(m.data, other.image) }, "does not have the base"},
		{"more than half of it", func(m *memory) { clear(m.data[mib : 4*mib+mib/2]) }, "does not have the base"},
		{"beside a partition that was added", moved("-e", "-n", "4:0:0"), "which a repair would remove"},
		{"beside a table that was moved", moved("-e"), ""},
	} {
		stick := old.onStick()
		c.change(stick)
		before := bytes.Clone(stick.data)
		u, err := Plan(t.Context(), stick, s.resolve(t, "/tone-os.iso"), Options{Repair: true})
		if c.says == "" {
			if err == nil {
				err = u.Run(t.Context(), nil)
			}
			if err != nil || !bytes.Equal(stick.data[:total], wanted.image) {
				t.Errorf("%s: %v", c.what, err)
			}
			continue
		}
		if _, is := errors.AsType[*OtherBaseError](err); !is || !strings.Contains(err.Error(), c.says) || !bytes.Equal(stick.data, before) {
			t.Errorf("%s: %v, want %q", c.what, err, c.says)
		}
	}
	// A server that has other bytes than it says.
	lying := bytes.Clone(wanted.image)
	lying[mib+65] ^= 2
	s.set(func() { s.change["tone-os.iso"] = lying })
	stick := old.onStick()
	mark(mib + 65)(stick)
	before := bytes.Clone(stick.data)
	u, err := Plan(t.Context(), stick, s.resolve(t, "/tone-os.iso"), Options{Repair: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Run(t.Context(), nil); !errors.Is(err, fault.Corrupt) || !bytes.Equal(stick.data, before) {
		t.Errorf("a block that came wrong: %v", err)
	}
}

// A repair that ends at any write leaves a stick that fails every check. The
// next update finishes it, or refuses.
func TestRepairIsKilled(t *testing.T) {
	b := newBase(t, 1)
	old, wanted := publish(t, b, "notepat", "<p>old"), publish(t, b, "tone", "<p>new")
	s := newServer(t, old, wanted)
	snap := s.resolve(t, "/tone-os.iso")
	for at := 1; ; at++ {
		// A quick look does not see the second.
		f, n := &faulty{memory: old.onStick()}, 0
		mark(mib+65, 3*mib+70_000)(f.memory)
		f.write = func(p []byte, off int64) ([]byte, error) {
			if n++; n < at {
				return p, nil
			}
			if n == at { // a part of it, as a power cut may leave it
				torn := bytes.Repeat([]byte{0xa5}, len(p)/2)
				copy(torn, p[:len(p)/4])
				_, _ = f.memory.WriteAt(torn, off)
			}
			return nil, errBroken
		}
		u, err := Plan(t.Context(), f, snap, Options{Repair: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := u.Run(t.Context(), nil); err == nil {
			if at < 7 || !bytes.Equal(f.data, wanted.onStick().data) {
				t.Errorf("it ended well after %d writes", at-1)
			}
			return
		}
		for _, o := range []Options{{}, {Repair: true}} {
			stick := &memory{bytes.Clone(f.data)}
			u, err := Plan(t.Context(), stick, snap, o)
			if err == nil && u.Same {
				t.Errorf("killed at write %d: it passes for whole", at)
			}
			if err == nil {
				err = u.Run(t.Context(), nil)
			}
			if _, touched := errors.AsType[*TouchedError](err); err != nil && (o.Repair || !touched) || err == nil && !bytes.Equal(stick.data, wanted.onStick().data) {
				t.Errorf("killed at write %d, then %+v: %v", at, o, err)
			}
		}
	}
}
