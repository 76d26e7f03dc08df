package stick

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"aesthetic.computer/isofs/fault"
)

// A machine is a fake /sys and /proc. Tests do not read the real ones.
type machine struct {
	t     *testing.T
	root  string
	nodes map[string]Node
}

func newMachine(t *testing.T) *machine {
	m := &machine{t: t, root: t.TempDir(), nodes: map[string]Node{}}
	m.write("proc/self/mountinfo", "")
	return m
}

func (m *machine) write(path, text string) {
	m.t.Helper()
	path = filepath.Join(m.root, path)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		m.t.Fatal(err)
	}
}

// block adds a block device; attributes are "name=value".
func (m *machine) block(name, number, parent string, attributes ...string) {
	m.t.Helper()
	dir := filepath.Join("sys/devices", parent, name)
	m.write(dir+"/dev", number+"\n")
	m.write(dir+"/size", "62521344\n")
	for _, a := range attributes {
		key, value, _ := strings.Cut(a, "=")
		m.write(filepath.Join(dir, key), value+"\n")
	}
	for _, link := range []string{"sys/dev/block/" + number, "sys/class/block/" + name} {
		link = filepath.Join(m.root, link)
		if err := errors.Join(os.MkdirAll(filepath.Dir(link), 0o755), os.Symlink(filepath.Join(m.root, dir), link)); err != nil {
			m.t.Fatal(err)
		}
	}
	m.nodes["/dev/"+name] = Node{Number: number}
}

func (m *machine) host() Host {
	return Host{Root: m.root, Stat: func(path string) (Node, error) {
		if n, ok := m.nodes[path]; ok {
			return n, nil
		}
		return Node{}, os.ErrNotExist
	}}
}

const (
	usb  = "pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0/host6/target6:0:0/6:0:0:0/block"
	sata = "pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0/block"
)

func TestRefusals(t *testing.T) {
	const root = "22 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw\n"
	for _, c := range []struct {
		what   string
		change func(m *machine)
		path   string
		says   []string // all reasons
		forced []string // those that --force leaves
	}{
		{"a stick", nil, "/dev/sdb", nil, nil},
		{"the system's disk", nil, "/dev/sda", []string{"not removable", "it holds the running system (sda2 is mounted at /)"}, []string{"running system"}},
		{"a partition", nil, "/dev/sdb1", []string{"partition 1 of sdb: give the whole disk"}, []string{"partition 1"}},
		{"mounted", func(m *machine) {
			m.write("proc/self/mountinfo", root+`40 22 8:17 / /media/my\040stick rw shared:9 - vfat /dev/sdb1 rw`+"\n")
		}, "/dev/sdb", []string{"sdb1 is mounted at /media/my stick"}, nil},
		{"mounted without a partition", func(m *machine) {
			m.write("proc/self/mountinfo", root+"40 22 8:16 / /mnt rw - iso9660 /dev/sdb ro\n")
		}, "/dev/sdb", []string{"sdb is mounted at /mnt"}, nil},
		{"mounted for the system, not for us", func(m *machine) {
			m.write("proc/1/mountinfo", root+"40 22 8:17 / /host/mnt rw - vfat /dev/sdb1 rw\n")
		}, "/dev/sdb", []string{"sdb1 is mounted at /host/mnt"}, nil},
		{"mounted as btrfs, whose number is its own", func(m *machine) {
			m.write("proc/self/mountinfo", root+"40 22 0:55 /@ /data rw - btrfs /dev/sdb1 rw\n")
		}, "/dev/sdb", []string{"sdb1 is mounted at /data"}, nil},
		{"swapped to", func(m *machine) {
			m.write("proc/swaps", "Filename Type Size Used Priority\n/dev/sdb1 partition 1 0 -2\n")
		}, "/dev/sdb", []string{"swaps to sdb1"}, []string{"swaps to sdb1"}},
		{"LVM on it", func(m *machine) {
			m.block("dm-0", "253:0", "virtual/block")
			m.write("sys/devices/"+usb+"/sdb/sdb1/holders/dm-0", "")
		}, "/dev/sdb", []string{"dm-0 lies on it"}, nil},
		{"the running system in LUKS in LVM on it", func(m *machine) {
			m.block("dm-0", "253:0", "virtual/block")
			m.block("dm-1", "253:1", "virtual/block")
			m.write("sys/devices/"+usb+"/sdb/sdb1/holders/dm-0", "")
			m.write("sys/devices/virtual/block/dm-0/holders/dm-1", "")
			m.write("proc/self/mountinfo", "22 1 253:1 / / rw - ext4 /dev/mapper/root rw\n")
		}, "/dev/sdb", []string{"running system (dm-1", "dm-0 lies", "dm-1 lies"}, []string{"running system"}},
		{"read-only", func(m *machine) { m.write("sys/devices/"+usb+"/sdb/ro", "1\n") }, "/dev/sdb", []string{"read-only"}, []string{"read-only"}},
		{"4096-byte sectors", func(m *machine) { m.write("sys/devices/"+usb+"/sdb/queue/logical_block_size", "4096\n") }, "/dev/sdb", []string{"sectors of 4096"}, []string{"sectors of 4096"}},
		{"another disk inside", func(m *machine) { m.block("sdc", "8:32", sata, "removable=0") }, "/dev/sdc", []string{"not removable"}, nil},
		{"a disk in a removable frame", func(m *machine) { m.block("sdc", "8:32", sata, "removable=1") }, "/dev/sdc", nil, nil},
		{"an SD card", func(m *machine) {
			m.block("mmcblk0", "179:0", "pci0000:00/mmc0/block", "removable=0", "device/type=SD", "device/name=SC32G")
		}, "/dev/mmcblk0", nil, nil},
		{"soldered flash", func(m *machine) {
			m.block("mmcblk1", "179:8", "pci0000:00/mmc1/block", "removable=0", "device/type=MMC")
		}, "/dev/mmcblk1", []string{"not removable"}, nil},
		{"a loop device", func(m *machine) { m.block("loop0", "7:0", "virtual/block", "removable=0") }, "/dev/loop0", []string{"not removable"}, nil},
	} {
		m := newMachine(t)
		m.write("proc/self/mountinfo", root)
		m.block("sda", "8:0", sata, "removable=0")
		m.block("sda2", "8:2", sata+"/sda", "partition=2")
		m.block("sdb", "8:16", usb, "removable=1", "device/vendor=SanDisk ", "device/model=Cruzer  ")
		m.block("sdb1", "8:17", usb+"/sdb", "partition=1")
		if c.change != nil {
			c.change(m)
		}
		d, err := m.host().Device(c.path)
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		for force, want := range map[bool][]string{false: c.says, true: c.forced} {
			err := d.Check(force)
			if (err == nil) != (len(want) == 0) || err != nil && fault.Kind(err) != fault.Invalid {
				t.Errorf("%s, force %v: %v, want %q", c.what, force, err, want)
				continue
			}
			if err == nil {
				continue
			}
			if lines := strings.Count(err.Error(), "\n  "); lines != len(want) {
				t.Errorf("%s, force %v: %d reasons, want %q: %v", c.what, force, lines, want, err)
			}
			for _, reason := range want {
				if !strings.Contains(err.Error(), reason) {
					t.Errorf("%s, force %v: %v lacks %q", c.what, force, err, reason)
				}
			}
			if offers := strings.Contains(err.Error(), "--force"); offers != (len(c.forced) == 0) {
				t.Errorf("%s: --force is offered: %v; it leaves %q", c.what, offers, c.forced)
			}
		}
	}
}

func TestWhatADeviceIs(t *testing.T) {
	m := newMachine(t)
	m.block("sdb", "8:16", usb, "removable=1", "device/vendor=SanDisk ", "device/model=Cruzer  ")
	m.nodes["/dev/null"] = Node{}
	file := filepath.Join(t.TempDir(), "stick.iso")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m.nodes[file] = Node{File: true, Size: 7}
	d, err := m.host().Device("/dev/sdb")
	if err != nil || d.Model != "SanDisk Cruzer" || d.Bus != "USB" || d.Size != 62521344*512 || d.File || d.Busy() {
		t.Errorf("a stick is %+v (%v)", d, err)
	}
	if d, err = m.host().Device(file); err != nil || !d.File || d.Size != 7 || d.Check(false) != nil {
		t.Errorf("a file is %+v (%v)", d, err)
	}
	m.write("sys/block/loop3/loop/backing_file", file+"\n")
	if d, err = m.host().Device(file); err != nil || d.Check(false) == nil || !d.Busy() || d.Check(true) != nil {
		t.Errorf("a file behind a loop device is %+v (%v)", d, err)
	}
	if _, err := m.host().Device("/dev/null"); !errors.Is(err, fault.Invalid) {
		t.Errorf("/dev/null: %v", err)
	}
	if _, err := m.host().Device("/dev/sdz"); !errors.Is(err, fault.NotFound) {
		t.Errorf("what is not there: %v", err)
	}
}

// A real file, by the paths of the real Disk.
func TestDiskReadsWhatItWrote(t *testing.T) {
	file := filepath.Join(t.TempDir(), "stick")
	data := make([]byte, 3*mib+777)
	for i := range data {
		data[i] = byte(i / 511)
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := Host{Root: t.TempDir()}.Device(file)
	if err != nil {
		t.Fatal(err)
	}
	disk, err := d.Open(true)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	if _, err := d.Open(true); !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "another isofs") {
		t.Errorf("a second time: %v", err)
	}
	if _, err := disk.WriteAt([]byte("hello"), 4095); err != nil {
		t.Fatal(err)
	}
	copy(data[4095:], "hello")
	if err := disk.Sync(); err != nil {
		t.Fatal(err)
	}
	for _, r := range [][2]int64{{0, 1}, {4095, 5}, {4095, 2 * mib}, {1, 3*mib + 776}, {3*mib + 770, 7}, {0, 3*mib + 777}} {
		got := make([]byte, r[1])
		if err := readAt(disk, got, r[0]); err != nil || string(got) != string(data[r[0]:r[0]+r[1]]) {
			t.Errorf("%d bytes at %d: not what was written (%v)", r[1], r[0], err)
		}
	}
	if err := readAt(disk, make([]byte, 8), 3*mib+770); !errors.Is(err, fault.Corrupt) {
		t.Errorf("past the end: %v", err)
	}
	if _, err := disk.WriteAt([]byte("longer"), disk.Size()-5); err == nil {
		t.Error("it can be made longer")
	}
}
