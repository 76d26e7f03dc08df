package main

import (
	"errors"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/origin"
)

// maxMirrors bounds --mirror; a manifest has a bound of its own.
const maxMirrors = 16

// mirrorFlags say where else a base is, and how much is asked of all.
type mirrorFlags struct {
	addresses []string
	redirects []string // hosts that any of all may redirect to
	hedge     bool
}

func (o *mirrorFlags) register(flags *pflag.FlagSet) {
	flags.StringSliceVar(&o.addresses, "mirror", nil, "another place of the same base (repeatable): a folder or URL that has base.iso, or the address of the image itself, if it ends in .iso or has a query")
	flags.StringSliceVar(&o.redirects, "origin-redirect", nil, "host that --base and mirrors may redirect to, besides their own (repeatable)")
	flags.BoolVar(&o.hedge, "hedge", true, "ask a second time, of a mirror if there is one, for what is late; makes at most a twentieth more requests")
}

func (o *mirrorFlags) validate(how origin.Options) []error {
	var wrong []error
	if len(o.addresses) > maxMirrors {
		wrong = append(wrong, wrongFlag("mirror", "is there %d times, at most %d are allowed", len(o.addresses), maxMirrors))
	}
	for _, host := range o.redirects {
		if u, err := url.Parse("//" + host); err != nil || u.Host != host || u.Hostname() == "" {
			wrong = append(wrong, wrongFlag("origin-redirect", "%q is not a host like cdn.example or cdn.example:8443", host))
		}
	}
	for _, address := range o.addresses {
		image, err := mirrorImage(address)
		if err == nil {
			var opened origin.Origin
			if opened, err = how.Open(image, 1); err == nil { // asks nobody
				err = opened.Close()
			}
		}
		if err != nil {
			wrong = append(wrong, blame("mirror", err))
		}
	}
	return wrong
}

// places are where one base is: --base, and each --mirror.
type places []string

// first is the address that the base is known by.
func (p places) first() string { return p[0] }

// folders are the places that have a manifest.
func (p places) folders() places {
	folders := places{p[0]}
	for _, address := range p[1:] {
		if !isImage(address) {
			folders = append(folders, address)
		}
	}
	return folders
}

// images are the addresses of the image, in order of preference. Those of the
// manifest come last, and only if they can be opened at all.
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
		was := seen[address]
		seen[address] = true
		return was
	}), nil
}

// mirrorImage is where a mirror has the image.
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

// text is how places are kept in the state, read back by readPlaces.
func (p places) text() []byte { return []byte(strings.Join(p, "\n") + "\n") }

func readPlaces(text []byte) places { return strings.Split(strings.TrimSpace(string(text)), "\n") }
