package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
)

const (
	mib    = 1 << 20
	espMiB = 64
	pieces = 16
)

// prepare builds isofs, makes the base and the pieces if they are missing, and
// composes one image as a file.
func (l *lab) prepare() error {
	l.isofs = l.path("isofs")
	if err := l.command("go", "build", "-o", l.isofs, "aesthetic.computer/isofs/cmd/isofs"); err != nil {
		return err
	}
	data, err := filepath.Abs(l.o.data)
	if err != nil {
		return err
	}
	l.base = filepath.Join(data, fmt.Sprint("base-", l.o.baseMiB))
	if err := os.MkdirAll(l.base, 0o755); err != nil {
		return err
	}
	iso := filepath.Join(l.base, "base.iso")
	if _, err := os.Stat(filepath.Join(l.base, "manifest.json")); err != nil {
		if err := l.makeBase(iso); err != nil {
			return fmt.Errorf("make %s: %w", iso, err)
		}
	}
	if err := l.makePieces(); err != nil {
		return err
	}
	l.image = l.path("p00-os.iso")
	err = l.command(l.isofs, "pack", "p00", "-o", l.image, "--base", l.base, "--pieces", l.path("pieces"), "--state", l.path("pack"))
	if err != nil {
		return err
	}
	os.RemoveAll(l.path("pack"))
	fi, err := os.Stat(l.image)
	if err != nil {
		return err
	}
	l.size = fi.Size()
	return nil
}

// makeBase writes a GPT with ESP, live partition and slot. The contents cannot
// be compressed, and are the same in each run.
func (l *lab) makeBase(path string) error {
	slot := int64(1+espMiB+l.o.baseMiB) * mib
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(slot + 21*mib); err != nil {
		return err
	}
	if _, err := f.Seek(mib, io.SeekStart); err != nil {
		return err
	}
	if _, err := io.CopyN(f, rand.NewChaCha8([32]byte{1}), slot-mib); err != nil {
		return err
	}
	// The slot's ext4 magic and label, by which isofs finds it.
	super := make([]byte, 1024)
	binary.LittleEndian.PutUint16(super[0x38:], 0xef53)
	copy(super[0x78:], "FEDAC-PIECE")
	if _, err := f.WriteAt(super, slot+1024); err != nil {
		return err
	}
	err = l.command("sgdisk", "-o", "-n", "1:1M:+64M", "-t", "1:ef00", "-n", fmt.Sprintf("2:0:+%dM", l.o.baseMiB),
		"-n", "3:0:+20M", path)
	if err != nil {
		return err
	}
	return l.command(l.isofs, "base", "index", path)
}

func (l *lab) makePieces() error {
	if err := os.Mkdir(l.path("pieces"), 0o755); err != nil {
		return err
	}
	for i := range pieces {
		page := make([]byte, 3*mib)
		_, _ = rand.NewChaCha8([32]byte{2, byte(i)}).Read(page) // never fails
		copy(page, "<!doctype html><title>p</title>")
		if err := os.WriteFile(filepath.Join(l.path("pieces"), pieceName(i)+".html"), page, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func pieceName(i int) string { return fmt.Sprintf("p%02d", i) }
