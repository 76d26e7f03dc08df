package bake

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/diskfs/go-diskfs/partition/gpt"
	"github.com/google/uuid"

	"aesthetic.computer/isofs/extent"
	"aesthetic.computer/isofs/fault"
)

const sectorSize = 512

// A part is a partition to be: its content fills it.
type part struct {
	name    string
	kind    gpt.Type
	content extent.Source
}

// id is a GUID that depends on nothing but its purpose: all bases of a recipe
// have the same, since two sticks are told apart by what is in them.
func id(purpose string) uuid.UUID {
	sum := sha256.Sum256([]byte("isofs bake " + purpose))
	var u uuid.UUID
	copy(u[:], sum[:])
	u[6] = u[6]&0x0f | 0x80 // version 8, RFC 9562
	u[8] = u[8]&0x3f | 0x80
	return u
}

// makeDisk writes a GPT disk image with the parts one after the other, each at
// a multiple of a MiB; the last is followed by the backup GPT alone.
func makeDisk(out, flavor string, parts []part) error {
	f, err := os.Create(out)
	if err != nil {
		return fmt.Errorf("bake: %w: %w", fault.Unavailable, err)
	}
	defer f.Close()
	table := &gpt.Table{
		LogicalSectorSize: sectorSize, PhysicalSectorSize: sectorSize,
		ProtectiveMBR: true, GUID: id(flavor + " disk").String(),
	}
	at := int64(MiB)
	for i, p := range parts {
		size := p.content.Size()
		table.Partitions = append(table.Partitions, &gpt.Partition{
			Index: i + 1, Start: uint64(at / sectorSize), Size: uint64(size), End: uint64((at+size)/sectorSize - 1),
			Type: p.kind, Name: p.name, GUID: id(flavor + " partition " + p.name).String(),
		})
		if err := copySparse(f, at, p.content); err != nil {
			return fmt.Errorf("bake: write partition %s: %w", p.name, err)
		}
		at = (at + size + MiB - 1) / MiB * MiB
	}
	// The backup GPT takes 33 sectors; a whole MiB keeps the size round, which
	// QEMU and CD drives like.
	total := at + MiB
	if err := f.Truncate(total); err != nil {
		return fmt.Errorf("bake: %w: %w", fault.Unavailable, err)
	}
	if err := table.Write(f, total); err != nil {
		return fmt.Errorf("bake: write the partition table: %w: %w", fault.Unavailable, err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("bake: %w: %w", fault.Unavailable, err)
	}
	return nil
}

// copySparse writes src at off, leaving out blocks of zeroes.
func copySparse(f *os.File, off int64, src extent.Source) error {
	buf := make([]byte, MiB)
	zero := make([]byte, MiB)
	for at := int64(0); at < src.Size(); {
		n, err := src.ReadAt(buf[:min(int64(len(buf)), src.Size()-at)], at)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if string(buf[:n]) != string(zero[:n]) {
			if _, err := f.WriteAt(buf[:n], off+at); err != nil {
				return fmt.Errorf("%w: %w", fault.Unavailable, err)
			}
		}
		at += int64(n)
	}
	return nil
}
