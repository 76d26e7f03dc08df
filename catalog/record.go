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

// A record is what the disk has of a snapshot, in snapshots/<id>.json.
type record struct {
	ID    string `json:"id"`
	Piece string `json:"piece"`
	Title string `json:"title"`
	// Density is the pixel density, if the client chose it, else 0.
	Density    int       `json:"density,omitempty"`
	Base       base.Hash `json:"base"`
	Bundle     base.Hash `json:"bundle"`
	BundleSize int64     `json:"bundleSize"`
	// Splash is what the machine shows before the piece, with the digest of its
	// picture.
	Splash image.Splash `json:"splash,omitzero"`
	// Time is the snapshot's: whole seconds, later than that of the one before.
	Time time.Time `json:"time"`
	// SourceTime is the bundle's time by its source. A directory notices a
	// change by it.
	SourceTime time.Time `json:"sourceTime"`
	// SourceBeside identifies the files beside the bundle, in the source's
	// terms.
	SourceBeside string `json:"sourceBeside,omitempty"`
	// SHA256 is that of the whole image.
	SHA256 base.Hash `json:"sha256"`
	// HashState is the state of its hash at its end, for signatures.
	HashState string `json:"hashState,omitempty"`
	// Signers and PieceSignature belong to a signed piece.json: the key may be
	// missing when the image is composed again. The id covers Signers. The sum,
	// a SHA-256, protects the signature.
	Signers           string     `json:"signers,omitempty"`
	PieceSignature    string     `json:"pieceSignature,omitempty"`
	PieceSignatureSum *base.Hash `json:"pieceSignatureSum,omitempty"`
	// Made is when this node made the snapshot. Since then its predecessor is
	// superseded.
	Made time.Time `json:"made"`
}

func (r record) inputs() image.Inputs {
	return image.Inputs{
		Piece: r.Piece, Title: r.Title, Bundle: r.Bundle, BundleSize: r.BundleSize,
		Time: r.Time.Unix(), Density: r.Density, Splash: r.Splash,
		Signers: r.Signers, PieceSignature: r.PieceSignature,
	}
}

// files are the stored files of the snapshot, with their sizes in bytes.
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

// key is a piece's name and density as a string: "notepat",
// "notepat?density=4".
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

// readAll returns all readable records. It reports and removes a file that has
// a record's name but is not a record, as nothing else can use it.
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
