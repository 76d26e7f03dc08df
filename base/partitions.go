package base

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"aesthetic.computer/isofs/fault"

	"github.com/diskfs/go-diskfs/filesystem/ext4"
	"github.com/diskfs/go-diskfs/filesystem/fat32"
	"github.com/diskfs/go-diskfs/partition/gpt"
)

// A Partition is an entry of an image's GPT.
type Partition struct {
	Number       int    // from 1
	Name         string // of the entry
	Label        string // of the ext4 or FAT32 volume in it, "" if neither
	Offset, Size int64  // bytes
}

// Partitions lists the partitions of an image of size bytes by their place on
// the disk. Errors are those of Index.
func Partitions(r io.ReaderAt, size int64) ([]Partition, error) {
	table, err := readGPT(r, size)
	if err != nil {
		return nil, err
	}
	sorted, err := sortedPartitions(table, size)
	if err != nil {
		return nil, err
	}
	var list []Partition
	for _, p := range sorted {
		s := partitionSpan(p)
		label, err := ext4VolumeLabel(r, s)
		if err != nil {
			return nil, fmt.Errorf("read the label of partition %d: %w", p.Index, err)
		}
		if label == "" && p.Type == gpt.EFISystemPartition {
			label = fatLabel(r, size, s)
		}
		list = append(list, Partition{Number: p.Index, Name: p.Name, Label: label, Offset: s.off, Size: s.size})
	}
	return list, nil
}

// fatLabel returns the label of the FAT32 at s, or "" if there is none.
func fatLabel(r io.ReaderAt, size int64, s span) string {
	volume, err := fat32.Read(&disk{r: r, size: size}, s.size, s.off, sectorSize)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(volume.Label())
}

// maxVolumeFile bounds what ReadFile returns.
const maxVolumeFile = 1 << 20

// ReadFile returns a small file of the ext4 in a partition of an image of size
// bytes. fault.NotFound if there is none of that name.
func (p Partition) ReadFile(r io.ReaderAt, size int64, name string) (data []byte, err error) {
	// go-diskfs panics at some volumes that are damaged.
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("read %s in partition %d: %v: %w", name, p.Number, v, fault.Corrupt)
		}
	}()
	volume, err := ext4.Read(&disk{r: r, size: size}, p.Size, p.Offset, sectorSize)
	if err != nil {
		return nil, fmt.Errorf("read the volume in partition %d: %w", p.Number, classify(err, fault.Corrupt))
	}
	entries, err := volume.ReadDir(".")
	if err != nil {
		return nil, fmt.Errorf("list the volume in partition %d: %w", p.Number, classify(err, fault.Corrupt))
	}
	if !hasEntry(entries, name) {
		return nil, fmt.Errorf("partition %d has no %s: %w", p.Number, name, fault.NotFound)
	}
	f, err := volume.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open %s in partition %d: %w", name, p.Number, classify(err, fault.Corrupt))
	}
	defer f.Close()
	data, err = io.ReadAll(io.LimitReader(f, maxVolumeFile+1))
	if err == nil && len(data) > maxVolumeFile {
		err = errors.New("it is too large")
	}
	if err != nil {
		return nil, fmt.Errorf("read %s in partition %d: %w", name, p.Number, classify(err, fault.Corrupt))
	}
	return data, nil
}

func hasEntry(entries []fs.DirEntry, name string) bool {
	for _, e := range entries {
		if e.Name() == name {
			return true
		}
	}
	return false
}
