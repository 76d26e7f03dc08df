// Command isofs mounts a directory in which every piece already is a bootable
// ISO, and serves it with a stock nginx.
//
// This package leaves everything to the libraries but flags, their validation
// and the wiring of the layers to each other; there is one file per subcommand.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/stick"
	"aesthetic.computer/isofs/store"
)

// Exit statuses, for scripts.
const (
	exitFailed   = 1 // something went wrong
	exitUsage    = 2 // wrong flags, arguments or configuration
	exitCorrupt  = 3 // bytes were not what they should be
	exitConflict = 4 // somebody else published at the same time
	exitOther    = 5 // the stick has another base than the piece needs, or a changed one
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	root, printed := newRoot(), &printer{to: os.Stdout}
	root.SetOut(printed)
	err := printed.end(execute(ctx, root))
	stop()
	if err == nil {
		return
	}
	if child, ok := errors.AsType[*childError](err); ok && child.status() > 0 {
		os.Exit(child.status()) // it has said why
	}
	fmt.Fprintf(os.Stderr, "isofs: %v\n", err)
	if hint := hintFor(err); hint != "" {
		fmt.Fprintf(os.Stderr, "hint: %s\n", hint)
	}
	os.Exit(exitStatus(err))
}

// execute marks the errors of cobra's own, of unknown commands and wrong
// numbers of arguments, as usage: all that fails before a command begins is.
func execute(ctx context.Context, root *cobra.Command) error {
	begun := false
	prepare := root.PersistentPreRunE
	root.PersistentPreRunE = func(cmd *cobra.Command, args []string) error {
		begun = true
		return prepare(cmd, args)
	}
	err := root.ExecuteContext(ctx)
	_, printing := errors.AsType[*printError](err) // of --help and --version
	if err != nil && !begun && !printing && !errors.Is(err, errUsage) {
		return fmt.Errorf("%s: %w", strings.TrimSpace(err.Error()), errUsage)
	}
	return err
}

func exitStatus(err error) int {
	_, other := errors.AsType[*stick.OtherBaseError](err)
	if _, touched := errors.AsType[*stick.TouchedError](err); other || touched {
		return exitOther
	}
	switch {
	case errors.Is(err, store.ErrConflict):
		return exitConflict
	case errors.Is(err, fault.Corrupt):
		return exitCorrupt
	case errors.Is(err, errUsage), errors.Is(err, fault.Invalid):
		return exitUsage
	}
	return exitFailed
}

// errUsage marks what the user typed wrong.
var errUsage = errors.New("see --help")

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "isofs",
		Short: "A mount of bootable ISOs, one for every piece",
		Long: `isofs mounts a directory in which every piece already is a bootable ISO.

No image is built or stored: a file there is a shared base, pulled block by block
from where it is published and verified, with a small partition generated in memory
that holds the piece. A stock nginx serves the mount.

Start here:
  isofs bake tiny -o bases          make a small base that boots
  isofs serve --base bases/tiny/amd64/VERSION --mount /srv/isofs
  wget -c http://127.0.0.1:8080/notepat-os.iso

Every flag can be given as an environment variable (--cache-size is ISOFS_CACHE_SIZE)
and in a file of lines like  cache-size = "4GiB"  named by --config. A flag wins over
the environment, the environment over the file.`,
		Version:       version(),
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := bindSettings(cmd); err != nil {
				return err
			}
			if reloadIn(cmd.Context()) != nil {
				return nil // the log stays as it is
			}
			return setLogger(cmd)
		},
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w (%s --help lists the flags): %w", err, cmd.CommandPath(), errUsage)
	})
	flags := root.PersistentFlags()
	flags.String("config", "", "file of settings in TOML; "+defaultConfig+" is read if it is there")
	flags.String("log-level", "info", "debug, info, warn or error")
	flags.String("log-format", "text", "text or json")
	root.AddCommand(
		newServe(), newMount(), newPack(), newInspect(), newBase(), newBake(), newBootTest(),
		newWarm(), newNginxConfig(), newAdmin(), newDoctor(), newStick(), newKey(), newVerify(),
	)
	return root
}

func setLogger(cmd *cobra.Command) error {
	var level slog.Level
	text, _ := cmd.Flags().GetString("log-level")
	if err := level.UnmarshalText([]byte(text)); err != nil {
		return fmt.Errorf("--log-level %q is none of debug, info, warn, error: %w", text, errUsage)
	}
	options := &slog.HandlerOptions{Level: level}
	switch format, _ := cmd.Flags().GetString("log-format"); format {
	case "text":
		slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, options)))
	case "json":
		slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stderr, options)))
	default:
		return fmt.Errorf("--log-format %q is neither text nor json: %w", format, errUsage)
	}
	return nil
}

// version is the module's, as the toolchain stamped it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	revision, modified := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision" && len(s.Value) >= 12:
			revision = " " + s.Value[:12]
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = " modified"
		}
	}
	return info.Main.Version + revision + modified + " " + info.GoVersion
}

// hintFor says what to do about an error, where the error itself does not.
func hintFor(err error) string {
	switch {
	case errors.Is(err, os.ErrPermission) && isChild():
		return "isofs gave up root's rights; choose a folder that --user may enter (not one below /root), or another --user"
	case errors.Is(err, os.ErrPermission):
		return "run as root, or choose directories that you own with --state, --cache and --mount"
	case errors.Is(err, syscall.ENOSPC):
		return "the disk is full; a smaller --cache-size needs less"
	}
	return ""
}
