package server

import (
	"strings"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/catalog"
	"aesthetic.computer/isofs/image"
	"aesthetic.computer/isofs/sidecar"
)

// sidecars returns the makers of the files beside the images, except .sha256,
// which the catalog makes. Addresses of images begin with publicURL. If it is
// set, a Metalink names it and the peers, other servers of the same images.
func sidecars(publicURL string, peers []string) []catalog.SidecarMaker {
	var servers []string
	if publicURL != "" {
		for _, server := range append([]string{publicURL}, peers...) {
			servers = append(servers, strings.TrimRight(server, "/"))
		}
	}
	return []catalog.SidecarMaker{
		{
			Suffix: "bmap", Has: sidecar.HasBlocks,
			Make: func(_ *catalog.Snapshot, img *image.Image) ([]byte, error) { return sidecar.Bmap(img) },
		},
		{
			Suffix: "meta4",
			// A Metalink has absolute addresses, which only the operator can
			// give.
			Has: func(m *base.Manifest) bool { return len(servers) > 0 && sidecar.HasBlocks(m) },
			Make: func(s *catalog.Snapshot, img *image.Image) ([]byte, error) {
				return sidecar.Metalink(img, aboutOf(s, servers))
			},
		},
		{
			Suffix: "zsync", Has: func(m *base.Manifest) bool { return m.Zsync != nil },
			Make: func(s *catalog.Snapshot, img *image.Image) ([]byte, error) {
				return sidecar.Zsync(img, aboutOf(s, nil))
			},
		},
	}
}

// aboutOf returns what the sidecars of a snapshot say about it.
func aboutOf(s *catalog.Snapshot, servers []string) sidecar.About {
	return sidecar.About{
		FileName: s.FileName(), Path: "/s/" + s.ID() + "/" + s.FileName(),
		Time: s.Time(), SHA256: s.SHA256(), Servers: servers,
	}
}
