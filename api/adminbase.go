package api

import (
	"context"
	"net/http"
)

// base makes new images on another base.
func (a *admin) base(ctx context.Context, given fields) (any, error) {
	if given["address"] == "" {
		return nil, badRequest("address is missing: the folder or URL that has manifest.json and base.iso")
	}
	if a.SetBase == nil {
		return nil, &statusError{http.StatusNotImplemented, "the base cannot be changed here"}
	}
	before := a.Catalog.Base().SHA256
	if err := a.SetBase(ctx, given["address"]); err != nil {
		return nil, err
	}
	return a.baseNow(before,
		"new images are made on this base from now on; downloads that began keep theirs. A restart goes back to --base: change that too"), nil
}

// channel reads the channel at once.
func (a *admin) channel(ctx context.Context, _ fields) (any, error) {
	if a.Follow == nil {
		return nil, &statusError{http.StatusNotImplemented, "there is no channel here"}
	}
	before := a.Catalog.Base().SHA256
	if err := a.Follow(ctx); err != nil {
		return nil, err
	}
	return a.baseNow(before, "new images are made on the base that the channel names; downloads that began keep theirs"), nil
}

// baseNow describes the base of new images.
func (a *admin) baseNow(before [32]byte, note string) any {
	m := a.Catalog.Base()
	return struct {
		Flavor  string `json:"flavor"`
		Version string `json:"version"`
		Arch    string `json:"arch"`
		SHA256  string `json:"sha256"`
		Size    int64  `json:"size"`
		Changed bool   `json:"changed"`
		Note    string `json:"note"`
	}{m.Flavor, m.Version, m.Arch, m.SHA256.String(), m.TotalSize, m.SHA256 != before, note}
}
