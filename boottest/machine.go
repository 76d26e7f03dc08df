package boottest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"aesthetic.computer/isofs/fault"
)

const (
	qemu = "qemu-system-x86_64"
	// startPatience is the longest wait for QEMU's monitor socket.
	startPatience = 30 * time.Second
	// maxLine bounds a line of the serial port.
	maxLine = 1 << 20
)

// A machine is a running QEMU.
type machine struct {
	cmd     *exec.Cmd
	monitor *monitor
	serial  chan string
	stopped chan struct{} // closed when the machine is stopped
	dir     string
	says    strings.Builder // QEMU's own complaints; complete after stop
	once    sync.Once
}

// start starts a machine with the image. Its files are in dir.
func (o *Options) start(ctx context.Context, dir, accel string) (*machine, error) {
	path, err := exec.LookPath(qemu)
	if err != nil {
		return nil, fmt.Errorf("%s is missing; on Debian: apt-get install qemu-system-x86: %w", qemu, fault.NotFound)
	}
	dir, err = os.MkdirTemp(dir, accel+"-")
	if err != nil {
		return nil, err
	}
	args, err := o.arguments(dir, accel)
	if err != nil {
		return nil, err
	}
	m := &machine{dir: dir, serial: make(chan string), stopped: make(chan struct{})}
	m.cmd = exec.Command(path, args...)
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	m.cmd.Stderr = &m.says
	if tmp := os.Getenv("TMPDIR"); tmp != "" {
		// QEMU puts temporary data of disks there, and needs an absolute path.
		if tmp, err = filepath.Abs(tmp); err != nil {
			return nil, err
		}
		m.cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	}
	console, err := m.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := m.cmd.Start(); err != nil {
		return nil, err
	}
	go m.listen(console)
	if err := m.connect(ctx); err != nil {
		m.stop()
		return nil, errors.Join(m.refusal(), err)
	}
	return m, nil
}

// arguments are QEMU's.
func (o *Options) arguments(dir, accel string) ([]string, error) {
	args, err := o.firmware(dir)
	if err != nil {
		return nil, err
	}
	cpu := []string{"-accel", "tcg,thread=multi", "-cpu", "max"}
	if accel == "kvm" {
		cpu = []string{"-accel", "kvm", "-cpu", "host"}
	}
	args = append(args, cpu...)
	args = append(args, "-smp", "2", "-m", fmt.Sprint(o.Memory), "-nodefaults", "-vga", "std", "-display", "none",
		"-nic", "none", "-no-reboot", "-serial", "stdio", "-monitor", "none",
		"-qmp", "unix:"+escape(filepath.Join(dir, "qmp"))+",server=on,wait=off",
		// A page needs a pointer and a keyboard.
		"-device", "qemu-xhci,id=usb", "-device", "usb-tablet,bus=usb.0", "-device", "usb-kbd,bus=usb.0")
	return append(args, o.drive()...), nil
}

// readPatience is the longest wait for a read from a server.
const readPatience = 2 * time.Minute

// drive attaches the image. Disks accept writes, as real ones do, and lose them
// at the end.
func (o *Options) drive() []string {
	drive := "if=none,id=image,format=raw,file=" + escape(o.drives)
	if scheme, _, ok := strings.Cut(o.drives, "://"); ok && isAddress(o.drives) {
		// After 5 s, its default, QEMU gives the machine a read error. A busy server may take longer.
		drive = fmt.Sprintf("if=none,id=image,format=raw,file.driver=%s,file.timeout=%d,file.url=%s", scheme, readPatience/time.Second, escape(o.drives))
	}
	disk, cd := drive+",snapshot=on", drive+",readonly=on,media=cdrom"
	switch o.As {
	case "disk":
		return []string{"-drive", disk, "-device", "virtio-blk-pci,drive=image,bootindex=0"}
	case "sata":
		return []string{"-drive", disk, "-device", "ide-hd,drive=image,bootindex=0"}
	case "cd":
		return []string{"-drive", cd, "-device", "ide-cd,drive=image,bootindex=0"}
	case "virtio-cd":
		return []string{"-drive", cd, "-device", "virtio-scsi-pci,id=scsi", "-device", "scsi-cd,bus=scsi.0,drive=image,bootindex=0"}
	}
	return []string{"-drive", disk, "-device", "usb-storage,bus=usb.0,drive=image,removable=on,bootindex=0"}
}

// escape makes a text one value of QEMU's options.
func escape(s string) string { return strings.ReplaceAll(s, ",", ",,") }

// listen passes on the lines of the serial port.
func (m *machine) listen(console io.Reader) {
	defer close(m.serial)
	lines := bufio.NewScanner(console)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		select {
		case m.serial <- lines.Text():
		case <-m.stopped:
			return
		}
	}
	// A line that is too long ends the scanner. It must not block the machine.
	_, _ = io.Copy(io.Discard, console)
}

// connect waits for the monitor. No output is lost in the meantime: listen
// reads the serial port.
func (m *machine) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for {
		var err error
		if m.monitor, err = dialMonitor(filepath.Join(m.dir, "qmp")); err == nil {
			return nil
		}
		if op, refused := errors.AsType[*net.OpError](err); !refused || op.Op != "dial" {
			return err
		}
		if m.ended() {
			return errors.New("QEMU ended at once")
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// ended reports whether QEMU has ended.
func (m *machine) ended() bool {
	state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", m.cmd.Process.Pid))
	_, after, _ := strings.Cut(string(state), ") ")
	return err != nil || strings.HasPrefix(after, "Z")
}

// stop ends the machine, which has nothing to save.
func (m *machine) stop() {
	m.once.Do(func() {
		close(m.stopped)
		_ = m.cmd.Process.Kill()
		_ = m.cmd.Wait()
		if m.monitor != nil {
			m.monitor.conn.Close()
		}
	})
}

func (m *machine) lines() <-chan string { return m.serial }

// screenshot asks QEMU for a picture of the screen.
func (m *machine) screenshot() (*screen, error) {
	path := filepath.Join(m.dir, "screen.ppm")
	if err := m.monitor.execute("screendump", map[string]any{"filename": path}); err != nil {
		if m.ended() {
			return nil, nil // the end of the serial port shows it too
		}
		return nil, err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parsePPM(data)
}

// handedOver looks for the message of SeaBIOS on its debugging port.
func (m *machine) handedOver() bool {
	data, _ := os.ReadFile(filepath.Join(m.dir, "bios"))
	return strings.Contains(string(data), "Booting from ")
}

// complaint is the error of a QEMU that ended by itself and failed. If it
// succeeded, the guest may have switched it off.
func (m *machine) complaint() error {
	if m.cmd.ProcessState.Success() {
		return nil
	}
	return errors.Join(m.refusal(), fmt.Errorf("QEMU ended: %s: %w", m.cmd.ProcessState, fault.Unavailable))
}

// refusal is an error with QEMU's complaint.
func (m *machine) refusal() error {
	says := strings.TrimSpace(m.says.String())
	switch {
	case strings.Contains(says, "Unknown protocol"):
		return fmt.Errorf("QEMU cannot read addresses; on Debian: apt-get install qemu-block-extra: %w: %s", fault.NotFound, says)
	case says != "":
		return fmt.Errorf("QEMU: %s: %w", says, fault.Unavailable)
	}
	return nil
}

// The firmware of Debian's package ovmf, the present and the older size: code
// and variables, without and with Microsoft's keys.
var ovmf = map[string][][2]string{
	"uefi": {{"OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"}, {"OVMF_CODE.fd", "OVMF_VARS.fd"}},
	"secureboot": {{"OVMF_CODE_4M.secboot.fd", "OVMF_VARS_4M.ms.fd"},
		{"OVMF_CODE.secboot.fd", "OVMF_VARS.ms.fd"}},
}

// ovmfDir is Debian's folder for it.
const ovmfDir = "/usr/share/OVMF"

// firmware returns the arguments for the firmware. It copies the firmware's
// variables to dir.
func (o *Options) firmware(dir string) ([]string, error) {
	if o.Firmware == "bios" {
		return []string{"-machine", "q35",
			"-chardev", "file,id=bios,path=" + escape(filepath.Join(dir, "bios")), "-device", "isa-debugcon,iobase=0x402,chardev=bios"}, nil
	}
	for _, f := range ovmf[o.Firmware] {
		code := filepath.Join(ovmfDir, f[0])
		vars, err := os.ReadFile(filepath.Join(ovmfDir, f[1]))
		if _, missing := os.Stat(code); missing != nil || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		own := filepath.Join(dir, "vars.fd")
		if err := os.WriteFile(own, vars, 0o600); err != nil {
			return nil, err
		}
		args := []string{"-machine", "q35"}
		if o.Firmware == "secureboot" {
			// Otherwise the guest could change the variables.
			args = []string{"-machine", "q35,smm=on", "-global", "driver=cfi.pflash01,property=secure,value=on"}
		}
		return append(args, "-drive", "if=pflash,format=raw,unit=0,readonly=on,file="+code,
			"-drive", "if=pflash,format=raw,unit=1,file="+escape(own)), nil
	}
	return nil, fmt.Errorf("the firmware for %s (%s) is missing; on Debian: apt-get install ovmf: %w",
		o.Firmware, filepath.Join(ovmfDir, ovmf[o.Firmware][0][0]), fault.NotFound)
}
