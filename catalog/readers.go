package catalog

import (
	"net/netip"
	"slices"
	"sync"
)

// readers record which networks began to download a snapshot: none, one, or
// several. Prune uses that when it needs room.
type readers struct {
	mu         sync.Mutex // guards all below
	downloaded bool
	network    string // the only one; "" if there are others, or it is not known
}

func (r *readers) add(network string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.downloaded && r.network != network {
		network = ""
	}
	r.downloaded, r.network = true, network
}

func (r *readers) load() (downloaded bool, network string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.downloaded, r.network
}

// Begun notes that a client begins to download the snapshot, or resumes it.
// When Prune needs room, it first forgets snapshots without a download. Then it
// forgets those of the network that alone downloads the most.
func (s *Snapshot) Begun(who Client) { s.readers.add(networkOf(who.Address)) }

// networkOf returns the IPv4 /24 or IPv6 /64 of an address. One machine may use
// many addresses in either.
func networkOf(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return address
	}
	bits := 64
	if ip = ip.Unmap(); ip.Is4() {
		bits = 24
	}
	return netip.PrefixFrom(ip.WithZone(""), bits).Masked().String()
}

// rank sets downloaded and later of each candidate, which decide first. later
// is the number of snapshots that the candidate's only network used after it.
// So a network that fills the disk with many pieces loses its own snapshots
// first.
func rank(all []candidate) {
	byNetwork := map[string][]int{}
	for i := range all {
		downloaded, network := all[i].snapshot.readers.load()
		if all[i].downloaded = downloaded; network != "" {
			byNetwork[network] = append(byNetwork[network], i)
		}
	}
	for _, list := range byNetwork {
		slices.SortFunc(list, func(a, b int) int { return all[b].used.Compare(all[a].used) })
		for later, i := range list {
			all[i].later = later
		}
	}
}
