package stick

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"aesthetic.computer/isofs/fault"
)

func TestUpdateWritesTheSlotAlone(t *testing.T) {
	b := newBase(t, 1)
	old, wanted := publish(t, b, "notepat", "<p>old"), publish(t, b, "@jeffrey/tone", "<p>new")
	s := newServer(t, old, wanted)
	for _, address := range []string{"/os:@jeffrey/tone", "/os?piece=@jeffrey/tone", "/at.jeffrey.tone-os.iso", "/at.jeffrey.tone-piece.img", "/s/" + wanted.id + "/at.jeffrey.tone-os.iso"} {
		stick := old.onStick()
		snap := s.resolve(t, address)
		if snap.ID != wanted.id || snap.Name != wanted.name {
			t.Fatalf("%s is snapshot %s of %s", address, snap.ID, snap.Name)
		}
		u, err := Plan(t.Context(), stick, snap, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if u.Has == nil || u.Has.Piece != "notepat" || u.Has.Snapshot != old.id || u.Same || u.All || len(u.Notes) > 0 {
			t.Errorf("the plan is %+v of %+v", u, u.Has)
		}
		if !bytes.Equal(stick.data, old.onStick().data) {
			t.Fatal("the plan wrote something")
		}
		if err := u.Run(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(stick.data, wanted.onStick().data) {
			t.Error("the stick is not as if it had been flashed with the other image")
		}
		if u, err = Plan(t.Context(), stick, snap, Options{}); err != nil || !u.Same {
			t.Errorf("a second time: %+v (%v)", u, err)
		}
	}
	if got := judged(t, wanted.image); got != "<p>new" {
		t.Errorf("the piece is %q", got)
	}
	for _, asked := range s.asked {
		if strings.HasPrefix(asked, "GET /s/") && strings.Contains(asked, "-os.iso ") {
			t.Errorf("the whole image was asked for: %s", asked)
		}
	}
}

// The bytes of a stick decide whether its base is another, not what it says.
func TestOtherBases(t *testing.T) {
	b, other := newBase(t, 1), newBase(t, 2)
	old, wanted := publish(t, b, "notepat", "<p>old"), publish(t, b, "tone", "<p>new")
	s := newServer(t, old, wanted)
	for _, c := range []struct {
		what   string
		change func(m *memory)
		o      Options
		plan   string // error of the plan, or of its running
		run    string
		kind   error
	}{
		{"another base with the same partitions", func(m *memory) { copy(m.data, publish(t, other, "notepat", "x").image) }, Options{}, "does not have the base", "", fault.Invalid},
		{"it says another, and has this", func(m *memory) {
			copy(m.data[slotStart:], publish(t, other, "notepat", "x").slot())
		}, Options{}, "", "", nil},
		{"it says nothing, and has this", func(m *memory) { clear(m.data[slotStart:][:slotSize]) }, Options{}, "", "", nil},
		{"it says nothing, and one block is wrong", func(m *memory) { clear(m.data[slotStart:][:slotSize]); m.data[3*mib+70_000]++ }, Options{}, "", "block 196 ", fault.Invalid},
		{"one block is wrong, which a quick look may miss", func(m *memory) { m.data[3*mib+70_000]++ }, Options{VerifyBase: true}, "", "partition 2 (FEDAC-LIVE)", fault.Invalid},
		{"a byte in the block in which the slot begins", func(m *memory) { m.data[slotStart-1]++ }, Options{VerifyBase: true}, "", "next to the slot", fault.Invalid},
		{"the first block of the ESP", func(m *memory) { m.data[mib]++ }, Options{}, "partition 1 (EFI)", "", fault.Invalid},
		{"the last block of FEDAC-LIVE", func(m *memory) { m.data[slotStart-4097]++ }, Options{}, "block 319 ", "", fault.Invalid},
		{"the boot code", func(m *memory) { m.data[3]++ }, Options{}, "before the first partition", "", fault.Invalid},
		{"the table is damaged", func(m *memory) { m.data[sector+45]++ }, Options{}, "damaged", "", fault.Invalid},
		{"an entry is damaged", func(m *memory) { m.data[2*sector+30]++ }, Options{}, "damaged", "", fault.Invalid},
		{"no table", func(m *memory) { clear(m.data[:mib]) }, Options{}, "not a stick of isofs", "", fault.Invalid},
		{"truncated", func(m *memory) { m.data = m.data[:total-1] }, Options{}, "it has", "", fault.Invalid},
		{"empty", func(m *memory) { m.data = nil }, Options{}, "not a stick of isofs", "", fault.Invalid},
		{"exactly as long as the image", func(m *memory) { m.data = m.data[:total] }, Options{VerifyBase: true}, "", "", nil},
	} {
		stick := old.onStick()
		c.change(stick)
		before := bytes.Clone(stick.data)
		u, err := Plan(t.Context(), stick, s.resolve(t, "/tone-os.iso"), c.o)
		if want := c.plan; want != "" {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", c.what, err, want)
			}
		} else if err != nil {
			t.Errorf("%s: %v", c.what, err)
		} else if err = u.Run(t.Context(), nil); (err == nil) != (c.run == "") || err != nil && !strings.Contains(err.Error(), c.run) {
			t.Errorf("%s: running: %v, want %q", c.what, err, c.run)
		}
		if c.kind != nil && fault.Kind(err) != c.kind {
			t.Errorf("%s: %v is %v, want %v", c.what, err, fault.Kind(err), c.kind)
		}
		if err != nil && !bytes.Equal(before, stick.data) {
			t.Errorf("%s: something was written", c.what)
		}
		if err == nil && !bytes.Equal(stick.data[:total], wanted.image) {
			t.Errorf("%s: the stick is not the image", c.what)
		}
	}
}

// Tools that find room behind the table's end move it, and add partitions.
func TestTableThatWasMoved(t *testing.T) {
	b := newBase(t, 1)
	old, wanted := publish(t, b, "notepat", "<p>old"), publish(t, b, "tone", "<p>new")
	s := newServer(t, old, wanted)
	for _, args := range [][]string{{"-e"}, {"-e", "-n", "4:0:0", "-c", "4:mine"}} {
		file := filepath.Join(t.TempDir(), "stick")
		if err := os.WriteFile(file, old.onStick().data, 0o600); err != nil {
			t.Fatal(err)
		}
		tool(t, "sgdisk", append(args, file)...)
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		stick := &memory{data}
		before := bytes.Clone(data)
		if v, err := Verify(t.Context(), stick, s.resolve(t, "/notepat-os.iso"), nil); err != nil || v.Same || !v.TableOnly && len(args) == 1 {
			t.Errorf("%q: verified: %+v (%v)", args, v, err)
		}
		u, err := Plan(t.Context(), stick, s.resolve(t, "/tone-os.iso"), Options{VerifyBase: true})
		if err != nil {
			t.Fatalf("%q: %v", args, err)
		}
		if text := strings.Join(u.Notes, "; "); !strings.Contains(text, "wrote its partition table again") || strings.Contains(text, "partition 4 (mine)") != (len(args) > 1) {
			t.Errorf("%q: the notes are %q", args, text)
		}
		if err := u.Run(t.Context(), nil); err != nil {
			t.Fatalf("%q: %v", args, err)
		}
		copy(before[slotStart:], wanted.slot())
		if !bytes.Equal(before, stick.data) {
			t.Errorf("%q: more than the slot was written", args)
		}
		if err := os.WriteFile(file, stick.data, 0o600); err != nil {
			t.Fatal(err)
		}
		if out := tool(t, "sgdisk", "-v", file); !strings.Contains(out, "No problems found") {
			t.Errorf("%q: sgdisk says\n%s", args, out)
		}
	}
	// A stick whose first table names other partitions is of another base.
	stick := old.onStick()
	file := filepath.Join(t.TempDir(), "stick")
	if err := os.WriteFile(file, stick.data, 0o600); err != nil {
		t.Fatal(err)
	}
	tool(t, "sgdisk", "-e", "-d", "2", file)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Plan(t.Context(), &memory{data}, s.resolve(t, "/tone-os.iso"), Options{})
	if _, other := errors.AsType[*OtherBaseError](err); !other || !strings.Contains(err.Error(), "partition 2 (FEDAC-LIVE)") {
		t.Errorf("without its second partition: %v", err)
	}
}

// A faulty Target fails, or does not keep what is written.
type faulty struct {
	*memory
	write func(p []byte, off int64) ([]byte, error)
	sync  func() error
}

func (f *faulty) WriteAt(p []byte, off int64) (int, error) {
	if f.write != nil {
		var err error
		if p, err = f.write(p, off); err != nil {
			return 0, err
		}
	}
	return f.memory.WriteAt(p, off)
}

func (f *faulty) Sync() error {
	if f.sync != nil {
		return f.sync()
	}
	return nil
}

var errBroken = errors.New("input/output error")

// A stick that loses writes never has a superblock that says that it is whole, and
// the next update finishes it.
func TestBrokenSticks(t *testing.T) {
	b := newBase(t, 1)
	old, wanted := publish(t, b, "notepat", "<p>old"), publish(t, b, "tone", "<p>"+strings.Repeat("new", 400_000))
	s := newServer(t, old, wanted)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, c := range []struct {
		what string
		how  func(f *faulty)
		kind error
		says string
	}{
		{"one bit is lost", func(f *faulty) {
			f.write = func(p []byte, off int64) ([]byte, error) {
				if p = bytes.Clone(p); off > slotStart+mib {
					p[77] ^= 1
				}
				return p, nil
			}
		}, fault.Corrupt, "reads back as"},
		{"writes beyond some size are dropped", func(f *faulty) {
			f.write = func(p []byte, off int64) ([]byte, error) {
				if off >= slotStart+mib {
					return nil, nil
				}
				return p, nil
			}
		}, fault.Corrupt, "not as large as it says"},
		{"writing fails", func(f *faulty) {
			f.write = func(p []byte, off int64) ([]byte, error) {
				if off >= slotStart+mib {
					return nil, errBroken
				}
				return p, nil
			}
		}, fault.Unavailable, "input/output error"},
		{"the marker is not kept", func(f *faulty) {
			f.write = func([]byte, int64) ([]byte, error) { return nil, nil }
		}, fault.Corrupt, "reads back as"},
		{"syncing fails", func(f *faulty) {
			n := 0
			f.sync = func() error {
				if n++; n > 1 {
					return errBroken
				}
				return nil
			}
		}, fault.Unavailable, "input/output error"},
		{"the user ends it", func(f *faulty) {
			f.write = func(p []byte, off int64) ([]byte, error) {
				if off >= slotStart+mib {
					cancel()
				}
				return p, nil
			}
		}, fault.Unavailable, "canceled"},
	} {
		f := &faulty{memory: old.onStick()}
		c.how(f)
		u, err := Plan(t.Context(), f, s.resolve(t, "/tone-os.iso"), Options{})
		if err != nil {
			t.Fatal(err)
		}
		err = u.Run(ctx, nil)
		if _, unfinished := errors.AsType[*UnfinishedError](err); !unfinished || fault.Kind(err) != c.kind || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "run the same command again") {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		if c.what == "the marker is not kept" {
			continue // then nothing is
		}
		u, err = Plan(t.Context(), f.memory, s.resolve(t, "/tone-os.iso"), Options{})
		if err != nil || u.Has == nil || !u.Has.Unfinished || u.Has.Piece != "tone" || u.Has.Snapshot != wanted.id || u.Same || u.All {
			t.Errorf("%s: then the plan is %+v (%v)", c.what, u, err)
			continue
		}
		if has, err := WhatItCarries(f.memory); err != nil || !has.Unfinished {
			t.Errorf("%s: it carries %+v (%v)", c.what, has, err)
		}
		if err := u.Run(t.Context(), nil); err != nil || !bytes.Equal(f.data, wanted.onStick().data) {
			t.Errorf("%s: the second time: %v", c.what, err)
		}
	}
}

// killAfter makes the test's own program write to the file in killFile, and hang at
// the write with that number.
const (
	killAfter = "STICK_TEST_HANG_AT"
	killFile  = "STICK_TEST_FILE"
	killURL   = "STICK_TEST_URL"
)

// A hanging is a Disk that prints a line at one write, and does not come back.
type hanging struct {
	*Disk
	left int
}

func (h *hanging) WriteAt(p []byte, off int64) (int, error) {
	if h.left--; h.left == 0 {
		// A part of it, as a power cut may leave it.
		_, _ = h.Disk.WriteAt(p[:len(p)/4/sector*sector], off)
		fmt.Println("hanging")
		select {}
	}
	return h.Disk.WriteAt(p, off)
}

func writeAndHang() {
	ctx := context.Background()
	err := func() error {
		at, err := strconv.Atoi(os.Getenv(killAfter))
		if err != nil {
			return err
		}
		device, err := Host{}.Device(os.Getenv(killFile))
		if err != nil {
			return err
		}
		disk, err := device.Open(true)
		if err != nil {
			return err
		}
		snap, err := (&Client{}).Resolve(ctx, os.Getenv(killURL))
		if err != nil {
			return err
		}
		u, err := Plan(ctx, &hanging{disk, at}, snap, Options{})
		if err != nil {
			return err
		}
		return u.Run(ctx, nil)
	}()
	fmt.Println("ended:", err)
	os.Exit(0)
}

func TestKilledWhileWriting(t *testing.T) {
	b := newBase(t, 1)
	old, wanted := publish(t, b, "notepat", "<p>old"), publish(t, b, "tone", "<p>"+strings.Repeat("new", 400_000))
	s := newServer(t, old, wanted)
	// The marker, three chunks, the superblock, and past the end.
	var seen []string
	for at := 1; ; at++ {
		file := filepath.Join(t.TempDir(), "stick")
		if err := os.WriteFile(file, old.onStick().data, 0o600); err != nil {
			t.Fatal(err)
		}
		output := killedAt(t, file, s.URL+"/tone-os.iso", at)
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		stick := &memory{data}
		u, err := Plan(t.Context(), stick, s.resolve(t, "/tone-os.iso"), Options{})
		if err != nil {
			t.Fatalf("killed at write %d: %v", at, err)
		}
		if strings.HasPrefix(output, "ended: <nil>") {
			if !u.Same {
				t.Error("it ended and the stick is not the image")
			}
			break
		}
		state := "says nothing"
		switch {
		case u.Same:
			t.Errorf("killed at write %d: the stick passes for whole", at)
		case u.Has != nil && u.Has.Unfinished:
			state = "unfinished"
		case u.Has != nil:
			state = "carries " + u.Has.Piece
		}
		seen = append(seen, state)
		if err := u.Run(t.Context(), nil); err != nil || !bytes.Equal(stick.data, wanted.onStick().data) {
			t.Errorf("killed at write %d: the second time: %v", at, err)
		}
	}
	// Of the first and the last write, of one block, the part before the superblock
	// was written: over the old one's, and over the marker.
	if want := []string{"unfinished", "unfinished", "unfinished", "unfinished", "says nothing"}; !slices.Equal(seen, want) {
		t.Errorf("after a kill at each write the stick was %q", seen)
	}
}

// killedAt updates a file in another process, which it kills at a write, and
// returns the output.
func killedAt(t *testing.T, file, address string, at int) string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", killAfter, at), killFile+"="+file, killURL+"="+address)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 4096)
	n, _ := out.Read(line) // it prints one line, or has died
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // it was killed
	return string(line[:n])
}

func TestWriteImage(t *testing.T) {
	b := newBase(t, 1)
	wanted := publish(t, b, "tone", "<p>new")
	s := newServer(t, wanted)
	s.set(func() { s.cut = 3 })
	stick := &memory{bytes.Repeat([]byte{7}, total+mib)}
	snap := s.resolve(t, "/tone-os.iso")
	if err := WriteImage(t.Context(), stick, snap, nil, nil); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(stick.data[:total], wanted.image) || stick.data[total] != 7 {
		t.Error("the stick is not the image")
	}
	if err := WriteImage(t.Context(), &memory{make([]byte, total-1)}, snap, nil, nil); !errors.Is(err, fault.Invalid) {
		t.Errorf("to a stick that is too small: %v", err)
	}
	f := &faulty{memory: &memory{make([]byte, total)}}
	f.write = func(p []byte, off int64) ([]byte, error) {
		if off == 4*mib {
			return nil, nil
		}
		return p, nil
	}
	err := WriteImage(t.Context(), f, snap, nil, nil)
	if _, unfinished := errors.AsType[*UnfinishedError](err); !unfinished || !errors.Is(err, fault.Corrupt) {
		t.Errorf("to a stick that loses a MiB: %v", err)
	}
	if !bytes.Equal(f.data[:mib], make([]byte, mib)) {
		t.Error("it starts all the same")
	}
	lying := bytes.Clone(wanted.image)
	lying[3*mib]++
	s.set(func() { s.change["tone-os.iso"] = lying })
	if err := WriteImage(t.Context(), stick, snap, nil, nil); !errors.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), "the server sent") {
		t.Errorf("of another image than the server said: %v", err)
	}
}

var _ Target = (*Disk)(nil)
