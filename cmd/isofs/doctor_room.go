package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"aesthetic.computer/isofs/server"
	"aesthetic.computer/isofs/upstream"
)

// What a server takes beside its cache.
const (
	bundlesRoom  size = 1 << 30   // on disk, catalog.DefaultLimits
	workersShare size = 2 << 20   // of memory, for a slow download
	ownMemory    size = 128 << 20 // of memory, isofs's and nginx's own
)

// roomChecks look at what a server would run short of later.
func roomChecks(o *serveFlags) []check {
	var list []check
	if address := o.baseAddress(); address != "" {
		list = append(list, check{"serve", "the base, " + address, o.baseWell, nil, ""})
	}
	on := map[string]size{o.stack.state: bundlesRoom}
	need := ownMemory + size(o.web.limits.TotalConnections)*workersShare
	switch dir := o.stack.cache.dir(o.stack.state); {
	case dir == "":
		need += o.stack.cache.limit
	case strings.HasPrefix(dir, o.stack.state+"/"):
		on[o.stack.state] += o.stack.cache.limit
	default:
		on[dir] = o.stack.cache.limit
	}
	for dir, needed := range on {
		list = append(list, check{"serve", fmt.Sprintf("room for %s in %s", needed, dir), func(context.Context) error { return roomFor(dir, needed) }, nil,
			"make room there, name another directory, or give --cache-size less"})
	}
	return append(list, check{"serve", fmt.Sprintf("memory for %d downloads at once", o.web.limits.TotalConnections), func(context.Context) error { return memoryFor(need) }, nil,
		"give --limit-total less, or the machine more"})
}

// baseAddress is where the base is, or the channel; "" if none is given.
func (o *serveFlags) baseAddress() string {
	if o.stack.channel.address != "" {
		return o.stack.channel.address
	}
	if o.stack.base == "-" {
		return ""
	}
	return o.stack.base
}

// baseWell reads what says which base there is.
func (o *serveFlags) baseWell(ctx context.Context) error {
	config := o.stack.upstream(nil, nil, nil)
	config.Origin.Timeout = server.ProbeTime
	bases, err := upstream.Open(config)
	if err != nil {
		return blameSettings(err)
	}
	return bases.Probe(ctx)
}

// roomFor looks whether so much fits beside what is not isofs's.
func roomFor(dir string, needed size) error {
	taken := size(0)
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil && unix.Lstat(path, &st) == nil {
			taken += size(st.Blocks * 512)
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
		if free := size(int64(disk.Bavail) * disk.Bsize); err == nil && free+taken < needed {
			err = fmt.Errorf("%d MiB are free, and isofs has %d MiB there", free>>20, taken>>20)
		}
		return err
	}
}

// memoryFor looks at the machine's memory.
func memoryFor(needed size) error {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return os.NewSyscallError("sysinfo", err)
	}
	if has := size(info.Totalram) * size(info.Unit); has < needed {
		return fmt.Errorf("they may take %d MiB, and the machine has %d MiB", needed>>20, has>>20)
	}
	return nil
}
