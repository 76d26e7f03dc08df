package catalog

import (
	"net/netip"
	"slices"
	"sync"
)

// readers are who began to download a snapshot, as far as it matters when room
// has to be made: nobody, those of one network, or more.
type readers struct {
	mu      sync.Mutex // guards all below
	begun   bool
	network string // of the only ones; "" if there are others, or it is not known
}

func (r *readers) add(network string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.begun && r.network != network {
		network = ""
	}
	r.begun, r.network = true, network
}

func (r *readers) load() (begun bool, network string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.begun, r.network
}

// Begun notes that a client begins to download the snapshot, or goes on with
// it. While there is too little room, snapshots that nobody downloads go
// before it; and of those that only one network downloads, the ones of the
// network that has the most.
func (s *Snapshot) Begun(who Client) { s.readers.add(networkOf(who.Address)) }

// networkOf returns the IPv4 /24 or IPv6 /64 of an address: one machine may
// use each address of the one, and one owner often has all of the other.
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

// rank fills in what candidates are compared by first: begun, and how many
// snapshots their only network used after them. So a network that has pieces
// made to fill the disk loses its own before those of others.
func rank(all []candidate) {
	byNetwork := map[string][]int{}
	for i := range all {
		begun, network := all[i].snapshot.readers.load()
		if all[i].begun = begun; network != "" {
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
