package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// A check is one thing that a machine must have.
type check struct {
	purpose string // serve, nginx, bake or test
	what    string
	probe   func(ctx context.Context) error
	// packages of Debian that have it; empty if no package helps.
	packages []string
	advice   string
}

func newDoctor() *cobra.Command {
	var o serveFlags
	cmd := &cobra.Command{
		Use:   "doctor [serve|nginx|bake|test]",
		Short: "Say what this machine lacks, and the command that mends it",
		Long: `doctor looks for what isofs needs: to serve, to bake bases, to run the tests. Its exit
status is 0 if nothing is missing for what was asked (serve and bake by default).

For serve it goes by the settings that serve would have, of flags, environment and file:
whether the user, the directories and the addresses are as they should be, and, while the
server runs, whether the mount and the addresses are that server's; whether the base can be
reached, and whether there is room and memory for what the settings allow. It takes all flags of
isofs serve.

For nginx it looks at an nginx of your own beside isofs mount: whether it has the part that
nginx-config --site prints, whether another site answers in its place, and whether it may
connect to isofs.`,
		Args:      cobra.MatchAll(cobra.MaximumNArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"serve", "nginx", "bake", "test"},
		RunE: func(cmd *cobra.Command, args []string) error {
			purposes := []string{"serve", "bake"}
			if len(args) == 1 {
				purposes = args
			}
			o.web.enabled = true
			if o.stack.base == "" && o.stack.channel.address == "" {
				o.stack.base = "-" // not opened
			}
			if err := o.complete(); err != nil {
				return err
			}
			return runDoctor(cmd.Context(), cmd.OutOrStdout(), purposes, slices.Concat(serverChecks(&o), roomChecks(&o), nginxChecks(&o), checks()))
		},
	}
	o.register(cmd)
	hide(cmd, "Base", "Cache", "Pieces", "Web", "Limits", "Signing", "Operator")
	return cmd
}

func runDoctor(ctx context.Context, out io.Writer, purposes []string, all []check) error {
	var install []string
	missing := 0
	for _, purpose := range purposes {
		fmt.Fprintf(out, "to %s:\n", purpose)
		for _, c := range all {
			if c.purpose != purpose {
				continue
			}
			err := c.probe(ctx)
			if err == nil {
				fmt.Fprintf(out, "  ok       %s\n", c.what)
				continue
			}
			missing++
			fmt.Fprintf(out, "  missing  %s: %v\n", c.what, err)
			if c.advice != "" {
				fmt.Fprintf(out, "           %s\n", c.advice)
			}
			install = append(install, c.packages...)
		}
	}
	if missing == 0 {
		return nil
	}
	if len(install) > 0 {
		slices.Sort(install)
		sudo := ""
		if os.Geteuid() != 0 {
			sudo = "sudo "
		}
		fmt.Fprintf(out, "\nto install what is missing:\n  %sapt-get update && %sapt-get install --no-install-recommends %s\n",
			sudo, sudo, strings.Join(slices.Compact(install), " "))
	}
	return fmt.Errorf("missing: %d, named above", missing)
}

// checks is the table of the programs that can be missing.
func checks() []check {
	var list []check
	for _, t := range []struct{ purpose, command, pkg string }{
		{"bake", "apt-get", "apt"},
		{"bake", "dpkg-deb", "dpkg"},
		{"bake", "mkfs.vfat", "dosfstools"},
		{"bake", "mcopy", "mtools"},
		{"bake", "xz", "xz-utils"},
		{"bake", "mkfs.erofs", "erofs-utils"},
		{"bake", "mke2fs", "e2fsprogs"},
		{"bake", "debugfs", "e2fsprogs"},
		{"bake", "gzip", "gzip"},
		{"bake", "grub-mkimage", "grub-common"},
		{"test", "e2fsck", "e2fsprogs"},
		{"test", "cpio", "cpio"},
		{"test", "sgdisk", "gdisk"},
		{"test", "wget", "wget"},
		{"test", "curl", "curl"},
		{"test", "aria2c", "aria2"},
		{"test", "zsync", "zsync"},
		{"test", "bmaptool", "bmap-tools"},
		{"test", "qemu-system-x86_64", "qemu-system-x86"},
		{"test", "xorriso", "xorriso"},
		{"test", "isoinfo", "genisoimage"},
		{"test", "shellcheck", "shellcheck"},
		{"test", "node", "nodejs"},
		{"test", "npm", "npm"},
		{"test", "chromium", "chromium"},
	} {
		list = append(list, check{t.purpose, t.command, onPath(t.command), []string{t.pkg}, ""})
	}
	return append(list, check{"test", "UEFI firmware", readable("/usr/share/OVMF/OVMF_CODE_4M.fd"), []string{"ovmf"}, ""},
		check{"test", "UEFI firmware with Secure Boot", readable("/usr/share/OVMF/OVMF_CODE_4M.secboot.fd"), []string{"ovmf"}, ""})
}

func readable(path string) func(context.Context) error {
	return func(context.Context) error {
		_, err := os.Stat(path)
		return err
	}
}

func onPath(command string) func(context.Context) error {
	return func(context.Context) error {
		// Root's programs are not on every user's path.
		for _, name := range []string{command, "/usr/sbin/" + command, "/sbin/" + command} {
			if _, err := exec.LookPath(name); err == nil {
				return nil
			}
		}
		return errors.New("not found")
	}
}

func canMount(context.Context) error {
	if os.Geteuid() == 0 {
		return nil
	}
	if _, err := exec.LookPath("fusermount3"); err != nil {
		return errors.New("neither root nor fusermount3")
	}
	return nil
}
