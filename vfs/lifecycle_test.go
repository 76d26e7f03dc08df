package vfs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/integration/testkit"

	"golang.org/x/sys/unix"
)

// soon is a context for a call that must fail.
func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

func isMounted(t testing.TB, dir string) bool {
	t.Helper()
	point, err := resolveMount(dir)
	if err != nil {
		t.Fatal(err)
	}
	top, err := topMount(point)
	if err != nil {
		t.Fatal(err)
	}
	return top != nil
}

func TestUnmountBusy(t *testing.T) {
	for _, test := range []struct{ how, want string }{
		{"exec 3<%/notepat-os.iso", "has open %/notepat-os.iso"},
		{"cd %", "it is its working folder"},
		{"cd %/s", "it is its working folder"},
	} {
		img := newImage(t, "notepat-os.iso", 1, 4096, 0)
		m := mountTree(t, newTree(img))
		holder := program(t, "sh", "-c", strings.ReplaceAll(test.how, "%", m.dir)+"; echo holds; read go")
		release, _ := holder.StdinPipe()
		says, _ := holder.StdoutPipe()
		if err := holder.Start(); err != nil {
			t.Fatal(err)
		}
		says.Read(make([]byte, 1))
		err := m.server.Unmount(soon(t))
		for _, want := range []string{
			"busy", "sh (process " + strconv.Itoa(holder.Process.Pid) + ")", strings.ReplaceAll(test.want, "%", m.dir), "umount -l " + m.dir,
		} {
			if err == nil || !errors.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error without %q: %v", test.how, want, err)
			}
		}
		if !isMounted(t, m.dir) {
			t.Fatal("unmounted although busy")
		}
		run(t, "cat", m.path("notepat-os.iso.sha256"))
		// Unmounting waits for the reader.
		unmounted := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			unmounted <- m.server.Unmount(ctx)
		}()
		release.Close()
		holder.Wait()
		if err := <-unmounted; err != nil {
			t.Error(err)
		}
		m.server.Wait()
		if isMounted(t, m.dir) || img.opened.Load() != img.closed.Load() {
			t.Error("still mounted, or a handle is left open")
		}
		if err := errors.Join(m.server.Unmount(soon(t)), m.server.Detach(), UnmountPath(soon(t), m.dir)); err != nil {
			t.Errorf("again: %v", err)
		}
	}
}

func TestUnmountNamesMappings(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "mapped"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	f.Truncate(4096)
	data, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(data)
	f.Close()
	list := holders(dir)
	if len(list) != 1 || list[0].pid != os.Getpid() || list[0].by != "has mapped "+f.Name() {
		t.Errorf("%+v", list)
	}
	if got := holders(dir + "x"); len(got) != 0 {
		t.Errorf("of another folder: %+v", got)
	}
}

// A detached mount serves its open files until they are closed.
func TestDetach(t *testing.T) {
	img := newImage(t, "notepat-os.iso", 1, someBytes, 0)
	m := mountTree(t, newTree(img))
	reader := program(t, "sh", "-c", "exec 3<"+m.path("notepat-os.iso")+"; echo >&2; read go; cat <&3")
	release, _ := reader.StdinPipe()
	says, _ := reader.StderrPipe()
	content, _ := reader.StdoutPipe()
	if err := reader.Start(); err != nil {
		t.Fatal(err)
	}
	says.Read(make([]byte, 1))
	if err := m.server.Detach(); err != nil {
		t.Fatal(err)
	}
	if isMounted(t, m.dir) {
		t.Error("still mounted")
	}
	release.Close()
	data, _ := io.ReadAll(content)
	if err := reader.Wait(); err != nil || len(data) != someBytes || differs(data, 1, 0) != nil {
		t.Errorf("reader: %v, %d bytes", err, len(data))
	}
	m.server.Wait()
	if img.opened.Load() != img.closed.Load() || img.pins.Load() != img.released.Load() {
		t.Error("a handle or pin is left")
	}
}

func TestUnmountOnlyIsofs(t *testing.T) {
	needMount(t)
	dir := mountFolder(t)
	if err := unix.Mount("other", dir, "tmpfs", 0, "size=4k"); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"unmount": UnmountPath(soon(t), dir), "recover": Recover(dir), "read ahead": RaiseReadAhead(dir),
	} {
		if err == nil || fault.Kind(err) == nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := Recover(dir); !strings.Contains(err.Error(), "tmpfs") {
		t.Error(err)
	}
	if !isMounted(t, dir) {
		t.Error("unmounted")
	}
}

// serveChild starts a process that serves, and waits until it does. The process
// is killed in the end.
func serveChild(t testing.TB, cmd *exec.Cmd) *bufio.Reader {
	t.Helper()
	var says strings.Builder
	cmd.Stderr = &says
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); err != nil || !strings.HasPrefix(line, "serving") {
		cmd.Wait()
		t.Fatalf("child: %q, %v: %s", line, err, says.String())
	}
	return lines
}

func TestRecover(t *testing.T) {
	needMount(t)
	t.Run("after kill -9, also twice", func(t *testing.T) {
		dir := mountFolder(t)
		for range 2 {
			cmd := child(t, "serve", dir)
			serveChild(t, cmd)
			run(t, "stat", dir+"/child-os.iso")
			cmd.Process.Kill()
			cmd.Wait()
		}
		if out, ok := try(t, "ls", dir); ok || !strings.Contains(out, "not connected") {
			t.Fatalf("the mount is not dead: %s", out)
		}
		if err := Recover(dir); err != nil || isMounted(t, dir) {
			t.Fatalf("%v", err)
		}
		serveChild(t, child(t, "serve", dir))
		run(t, "cat", dir+"/child-os.iso")
	})
	t.Run("a link to a dead mount", func(t *testing.T) {
		dir := mountFolder(t)
		link := filepath.Join(t.TempDir(), "link")
		if err := os.Symlink(dir, link); err != nil {
			t.Fatal(err)
		}
		cmd := child(t, "serve", link)
		serveChild(t, cmd)
		cmd.Process.Kill()
		cmd.Wait()
		if err := Recover(link); err != nil || isMounted(t, dir) {
			t.Fatalf("%v", err)
		}
	})
	t.Run("a live mount is refused", func(t *testing.T) {
		dir := mountFolder(t)
		serveChild(t, child(t, "serve", dir))
		if err := Recover(dir); !errors.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "another isofs serves it") {
			t.Errorf("%v", err)
		}
		run(t, "cat", dir+"/child-os.iso")
	})
	t.Run("a server that is stuck is dead", func(t *testing.T) {
		dir := mountFolder(t)
		cmd := child(t, "serve", dir)
		serveChild(t, cmd)
		cmd.Process.Signal(syscall.SIGSTOP)
		testkit.Eventually(t, "all threads stand still", func() bool {
			tasks := fmt.Sprintf("/proc/%d/task", cmd.Process.Pid)
			out, _ := try(t, "sh", "-c", "grep -h State: "+tasks+"/*/status | grep -vc stopped")
			return out == "0\n"
		})
		if err := recoverMount(dir, 200*time.Millisecond); err != nil || isMounted(t, dir) {
			t.Errorf("%v", err)
		}
		cmd.Process.Kill() // ends the question that it left unanswered
	})
	t.Run("folders", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "a", "b c")
		if err := Recover(dir); err != nil {
			t.Fatal(err)
		}
		if st, err := os.Stat(dir); err != nil || !st.IsDir() {
			t.Fatal(err)
		}
		if err := Recover(dir); err != nil {
			t.Error(err)
		}
		os.WriteFile(filepath.Join(dir, "precious"), nil, 0o644)
		for _, bad := range []string{dir, filepath.Join(dir, "precious"), filepath.Join(dir, "precious", "x")} {
			if err := Recover(bad); !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "precious") {
				t.Errorf("%s: %v", bad, err)
			}
		}
	})
}

func TestMountRefuses(t *testing.T) {
	needMount(t)
	file := filepath.Join(t.TempDir(), "file")
	os.WriteFile(file, nil, 0o644)
	for _, c := range []Config{
		{}, {Mountpoint: "x", Profile: "fast"}, {Mountpoint: "x", LookupTimeout: -1},
		{Mountpoint: file}, {Mountpoint: file + "x"},
	} {
		if s, err := Mount(c, newTree()); !errors.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v, %v", c, s, err)
		}
	}
}

func TestReadAheadRaised(t *testing.T) {
	m := mountTree(t, newTree(), withProfile(PageCache))
	top, err := topMount(m.dir)
	if err != nil || top == nil {
		t.Fatal(err)
	}
	if got := run(t, "cat", "/sys/class/bdi/"+top.device+"/read_ahead_kb"); got != "1024" {
		t.Errorf("read-ahead %s KiB: %s", got, m.log)
	}
}

func TestParseMount(t *testing.T) {
	m := parseMount(`60 29 0:45 / /srv/my\040isos\134x ro,nosuid shared:7 - fuse.isofs isofs ro,user_id=65534,group_id=7,max_read=1048576`)
	if m == nil || m.point != `/srv/my isos\x` || m.device != "0:45" || m.fsType != fsType || m.source != "isofs" ||
		m.number("user_id") != 65534 || m.number("group_id") != 7 || m.number("none") != -1 {
		t.Errorf("%+v", m)
	}
	for _, bad := range []string{"", " - ", "a b c d - e f g", "a b c d e - f"} {
		if m := parseMount(bad); m != nil {
			t.Errorf("%q: %+v", bad, m)
		}
	}
}

func FuzzParseMount(f *testing.F) {
	f.Add(`60 29 0:45 / /srv/my\040isos\134 ro shared:7 - fuse.isofs isofs ro,user_id=0`)
	f.Add(`1 2 3 4 \\0 - a b c`)
	f.Fuzz(func(t *testing.T, line string) {
		if m := parseMount(line); m != nil {
			m.number("user_id")
		}
	})
}
