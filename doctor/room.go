package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"aesthetic.computer/isofs/server"
	"aesthetic.computer/isofs/settings"
	"aesthetic.computer/isofs/upstream"
)

// What a server takes beside its cache.
const (
	bundlesRoom  settings.Size = 1 << 30   // on disk, catalog.DefaultLimits
	workersShare settings.Size = 2 << 20   // of memory, for a slow download
	ownMemory    settings.Size = 128 << 20 // of memory, isofs's and nginx's own
)

// roomChecks look at what a server would run out of later.
func (d Doctor) roomChecks() []check {
	var list []check
	if address := cmp.Or(d.Server.Stack.Bases.Channel.Address, d.Server.Stack.Bases.Address); address != "" {
		list = append(list, check{"serve", "the base, " + address, d.probeBase, nil, ""})
	}
	state, cache, downloads := d.Server.Stack.State, d.Server.Stack.Cache, d.Server.Web.Nginx.Limits.TotalConnections
	on := map[string]settings.Size{state: bundlesRoom}
	need := ownMemory + settings.Size(downloads)*workersShare
	switch limit := settings.Size(cache.MaxBytes); {
	case cache.Dir == "":
		need += limit
	case strings.HasPrefix(cache.Dir, state+"/"):
		on[state] += limit
	default:
		on[cache.Dir] = limit
	}
	for dir, needed := range on {
		list = append(list, check{"serve", fmt.Sprintf("room for %s in %s", needed, dir), func(context.Context) error { return roomFor(dir, needed) }, nil,
			"make room there, name another directory, or give --cache-size less"})
	}
	return append(list, check{"serve", fmt.Sprintf("memory for %d downloads at once", downloads), func(context.Context) error { return memoryFor(need) }, nil,
		"give --limit-total less, or the machine more"})
}

// probeBase reads the manifest, or the channel.
func (d Doctor) probeBase(ctx context.Context) error {
	config := d.Server.Stack.Bases
	config.Origin.Timeout = server.ProbeTime
	bases, err := upstream.Open(config)
	if err != nil {
		return err
	}
	return bases.Probe(ctx)
}

// roomFor checks that so much fits beside the files of other programs.
func roomFor(dir string, needed settings.Size) error {
	taken := settings.Size(0)
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil && unix.Lstat(path, &st) == nil {
			taken += settings.Size(st.Blocks * 512)
		}
		return nil // what cannot be read takes no room that is known of
	})
	if err != nil {
		return err
	}
	for {
		var disk unix.Statfs_t
		err := unix.Statfs(dir, &disk)
		if errors.Is(err, unix.ENOENT) && dir != "/" {
			dir = filepath.Dir(dir) // it will be made
			continue
		}
		if free := settings.Size(int64(disk.Bavail) * disk.Bsize); err == nil && free+taken < needed {
			err = fmt.Errorf("%d MiB are free, and isofs has %d MiB there", free>>20, taken>>20)
		}
		return err
	}
}

// memoryFor looks at the machine's memory.
func memoryFor(needed settings.Size) error {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return os.NewSyscallError("sysinfo", err)
	}
	if has := settings.Size(info.Totalram) * settings.Size(info.Unit); has < needed {
		return fmt.Errorf("they may take %d MiB, and the machine has %d MiB", needed>>20, has>>20)
	}
	return nil
}
