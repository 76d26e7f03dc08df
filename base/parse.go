package base

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"

	"aesthetic.computer/isofs/fault"
)

// maxDepth bounds the nesting of unknown fields.
const maxDepth = 32

// Parse reads and validates a manifest. Errors wrap fault.Invalid or
// fault.Corrupt and name the field. It skips unknown fields, so that an older
// isofs reads a newer manifest. It refuses JSON that two readers could
// understand differently: a field twice or in other letters, or data behind the
// end.
func Parse(data []byte) (*Manifest, error) {
	if len(data) > MaxManifestSize {
		return nil, fmt.Errorf("parse a manifest: %d bytes, at most %d are allowed: %w", len(data), MaxManifestSize, fault.Invalid)
	}
	if err := checkShape(data, fieldNames); err != nil {
		return nil, fmt.Errorf("parse a manifest: %w", err)
	}
	var m Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("parse a manifest: %w", classify(err, fault.Corrupt))
	}
	if err := m.Validate(); err != nil {
		return nil, fmt.Errorf("parse a manifest: %w", err)
	}
	return &m, nil
}

// Marshal writes the manifest as indented JSON ending in a newline. The same
// manifest gives the same bytes. It refuses a manifest that Validate refuses.
func (m *Manifest) Marshal() ([]byte, error) {
	if err := m.Validate(); err != nil {
		return nil, fmt.Errorf("write a manifest: %w", err)
	}
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write a manifest: %w: %w", fault.Invalid, err)
	}
	return append(data, '\n'), nil
}

// fieldNames are the fields of a Manifest.
var fieldNames = folded(
	"version", "flavor", "fedora", "arch", "piecePartitionOffset", "piecePartitionSize", "totalSize", "sha256",
	"blockSize", "blocks", "midstates", "tail", "bootFiles", "mirrors", "zsync", "empty", "createdAt",
)

// folded maps the folded form of each name to the name.
func folded(names ...string) map[string]string {
	all := map[string]string{}
	for _, n := range names {
		all[fold(n)] = n
	}
	return all
}

// checkShape checks the form of the JSON: one object, each field once, and
// fields of names spelled as there.
func checkShape(data []byte, names map[string]string) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	tok, err := dec.Token()
	if err == nil && tok != json.Delim('{') {
		return fmt.Errorf("a JSON object wanted, got %T: %w", tok, fault.Corrupt)
	}
	if err == nil {
		err = checkObject(dec, "", 1, names)
	}
	if err != nil {
		return atOffset(err, dec)
	}
	at := dec.InputOffset()
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("data behind the end of the object at byte %d: %w", at, fault.Corrupt)
	}
	return nil
}

// atOffset adds to err where the decoder stopped.
func atOffset(err error, dec *json.Decoder) error {
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("the object is cut off: %w", io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("at byte %d: %w", dec.InputOffset(), classify(err, fault.Corrupt))
}

// checkObject reads the rest of an object whose path is prefix.
func checkObject(dec *json.Decoder, prefix string, depth int, names map[string]string) error {
	if depth > maxDepth {
		return fmt.Errorf("field %.80q is nested more than %d deep: %w", prefix, maxDepth, fault.Invalid)
	}
	seen := map[string]bool{}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return err
		}
		key, _ := tok.(string)
		folded := fold(key)
		if seen[folded] {
			return fmt.Errorf("field %.80q is there twice: %w", prefix+key, fault.Corrupt)
		}
		seen[folded] = true
		if want := names[folded]; prefix == "" && want != "" && want != key {
			return fmt.Errorf("field %q must be written %q: %w", key, want, fault.Invalid)
		}
		if err := checkValue(dec, prefix+key+".", depth, names); err != nil {
			return err
		}
	}
	_, err := dec.Token()
	return err
}

// checkValue reads one value.
func checkValue(dec *json.Decoder, prefix string, depth int, names map[string]string) error {
	tok, err := dec.Token()
	if err != nil {
		return err
	}
	switch tok {
	case json.Delim('{'):
		return checkObject(dec, prefix, depth+1, names)
	case json.Delim('['):
		if depth > maxDepth {
			return fmt.Errorf("field %.80q is nested more than %d deep: %w", prefix, maxDepth, fault.Invalid)
		}
		for dec.More() {
			if err := checkValue(dec, prefix, depth+1, names); err != nil {
				return err
			}
		}
		_, err = dec.Token()
	}
	return err
}

// fold gives the same result for names that encoding/json takes for the same
// field.
func fold(s string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
			least = min(least, next)
		}
		return least
	}, s)
}
