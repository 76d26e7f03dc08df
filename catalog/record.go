package catalog

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/image"
	"aesthetic.computer/isofs/piece"
)

// A record is what is kept of a snapshot, in snapshots/<id>.json.
type record struct {
	ID    string `json:"id"`
	Piece string `json:"piece"`
	Title string `json:"title"`
	// Density is that which the piece was packed for at somebody's wish, else 0.
	Density    int       `json:"density,omitempty"`
	Base       base.Hash `json:"base"`
	Bundle     base.Hash `json:"bundle"`
	BundleSize int64     `json:"bundleSize"`
	// Splash is what the machine shows before the piece, with the digest of its
	// picture.
	Splash image.Splash `json:"splash,omitzero"`
	// Time is the snapshot's: whole seconds, later than that of the one before.
	Time time.Time `json:"time"`
	// SourceTime is the bundle's as its source told it, by which a directory
	// notices a change.
	SourceTime time.Time `json:"sourceTime"`
	// SourceBeside is by what the source knows again what lay beside the bundle.
	SourceBeside string `json:"sourceBeside,omitempty"`
	// SHA256 is that of the whole image.
	SHA256 base.Hash `json:"sha256"`
	// HashState is the state of its hash at its end, for signatures.
	HashState string `json:"hashState,omitempty"`
	// Signers and PieceSignature are those of piece.json, if it is signed: the
	// key may be gone when the image is composed again. The id tells of the
	// first, the sum, a SHA-256, whether the second is what it was.
	Signers           string     `json:"signers,omitempty"`
	PieceSignature    string     `json:"pieceSignature,omitempty"`
	PieceSignatureSum *base.Hash `json:"pieceSignatureSum,omitempty"`
	// Made is when this node made the snapshot. Its predecessor is superseded
	// since then.
	Made time.Time `json:"made"`
}

func (r record) inputs() image.Inputs {
	return image.Inputs{
		Piece: r.Piece, Title: r.Title, Bundle: r.Bundle, BundleSize: r.BundleSize,
		Time: r.Time.Unix(), Density: r.Density, Splash: r.Splash,
		Signers: r.Signers, PieceSignature: r.PieceSignature,
	}
}

// files are what is stored of the snapshot, with their sizes in bytes.
func (r record) files() map[base.Hash]int64 {
	files := map[base.Hash]int64{r.Bundle: r.BundleSize}
	if r.Splash.HasPicture() {
		files[r.Splash.Picture] = r.Splash.PictureSize
	}
	return files
}

// name is the piece's name, with its density.
func (r record) name() (piece.Name, error) {
	name, err := piece.ParseName(r.Piece)
	return name.WithDensity(r.Density), err
}

func (r record) key() string { return key(r.Piece, r.Density) }

func keyOf(name piece.Name) string { return key(name.String(), name.Density()) }

// key is a piece's name as a string that tells apart the densities of the
// piece: "notepat", "notepat?density=4".
func key(name string, density int) string {
	if density == 0 {
		return name
	}
	return fmt.Sprintf("%s?density=%d", name, density)
}

// recordDir is the directory of the records.
type recordDir string

func (d recordDir) path(id string) string { return filepath.Join(string(d), id+".json") }

// write puts the record on disk, whole or not at all.
func (d recordDir) write(r record) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write the record of snapshot %s: %w: %w", r.ID, fault.Invalid, err)
	}
	if err := writeFile(d.path(r.ID), append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the record of snapshot %s: %w: %w", r.ID, fault.Unavailable, err)
	}
	return nil
}

func (d recordDir) remove(id string) error {
	if err := os.Remove(d.path(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the record of snapshot %s: %w: %w", id, fault.Unavailable, err)
	}
	return nil
}

// readAll returns all records that can be read. What is none, though it is
// called like one, is reported and removed: nothing can be done with it.
func (d recordDir) readAll(log *slog.Logger) ([]record, error) {
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return nil, fmt.Errorf("read the snapshots: %w: %w", fault.Unavailable, err)
	}
	var records []record
	for _, e := range entries {
		id, isRecord := strings.CutSuffix(e.Name(), ".json")
		if !isRecord {
			continue
		}
		r, err := d.read(id)
		if err == nil {
			records = append(records, r)
			continue
		}
		log.Warn("snapshot left out", "id", id, "err", err)
		if errors.Is(err, fault.Corrupt) {
			if err := d.remove(id); err != nil {
				log.Warn("snapshot not removed", "id", id, "err", err)
			}
		}
	}
	return records, nil
}

func (d recordDir) read(id string) (record, error) {
	var r record
	data, err := os.ReadFile(d.path(id))
	if err != nil {
		return r, fmt.Errorf("read %s: %w: %w", d.path(id), fault.Unavailable, err)
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return r, fmt.Errorf("read %s: %w: %w", d.path(id), fault.Corrupt, err)
	}
	if r.ID != id {
		return r, fmt.Errorf("read %s: it is the record of %q: %w", d.path(id), r.ID, fault.Corrupt)
	}
	return r, nil
}
