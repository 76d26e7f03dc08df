package upstream

import (
	"errors"
	"path"
	"slices"
	"strings"

	"aesthetic.computer/isofs/base"
)

// places are where one base is: Config.Address, then Config.Mirrors. There is at
// least one.
type places []string

// first returns the address that names the base.
func (p places) first() string { return p[0] }

// folders returns the places that have a manifest.
func (p places) folders() places {
	folders := places{p[0]}
	for _, address := range p[1:] {
		if !isImage(address) {
			folders = append(folders, address)
		}
	}
	return folders
}

// images returns the addresses of the image, in order of preference. Those of
// the manifest come last, and only if they can be opened at all.
func (p places) images(m *base.Manifest, usable func(address string) bool) ([]string, error) {
	var images []string
	first, err := imageOf(p[0])
	if err == nil {
		images = append(images, first)
	}
	for _, address := range p[1:] {
		image, err := mirrorImage(address)
		if err != nil {
			return nil, err
		}
		images = append(images, image)
	}
	for _, address := range m.Mirrors {
		if usable(address) {
			images = append(images, address)
		}
	}
	if len(images) == 0 {
		return nil, err
	}
	seen := map[string]bool{}
	return slices.DeleteFunc(images, func(address string) bool {
		again := seen[address]
		seen[address] = true
		return again
	}), nil
}

// mirrorImage returns where a mirror has the image.
func mirrorImage(address string) (string, error) {
	if isImage(address) {
		return address, nil
	}
	if address == "" {
		return "", errors.New("an empty address")
	}
	return imageOf(address)
}

// isImage reports whether an address is that of the image itself.
func isImage(address string) bool {
	if u := webURL(address); u != nil {
		return path.Ext(u.Path) == ".iso" || hasQuery(address)
	}
	return path.Ext(address) == ".iso"
}

// text returns places as they are kept on disk, one a line. readPlaces reads it.
func (p places) text() []byte { return []byte(strings.Join(p, "\n") + "\n") }

// readPlaces reads what text returned.
func readPlaces(text []byte) places { return strings.Split(strings.TrimSpace(string(text)), "\n") }
