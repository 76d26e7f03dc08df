// Command isofs mounts a directory in which every piece already is a bootable
// ISO, and serves it with a stock nginx.
//
// This package turns flags, environment and file into the Config of a package,
// calls that, and prints what comes of it; there is one file per subcommand. It
// also starts itself once more as another user where root started it, and reads
// settings again at SIGHUP.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/server"
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
	cmd, err := execute(ctx, root)
	err = printed.end(err)
	stop()
	if err == nil {
		return
	}
	if child, ok := errors.AsType[*server.ChildError](err); ok && child.Status() > 0 {
		os.Exit(child.Status()) // it has said why
	}
	fmt.Fprintf(os.Stderr, "isofs: %v\n", err)
	if hint := hintFor(cmd, err); hint != "" {
		fmt.Fprintf(os.Stderr, "hint: %s\n", hint)
	}
	os.Exit(exitStatus(err))
}

// execute runs the command that the arguments name. All that fails before it
// begins is usage: cobra's own errors, of unknown commands and wrong numbers of
// arguments, say so here.
func execute(ctx context.Context, root *cobra.Command) (*cobra.Command, error) {
	begun := false
	prepare := root.PersistentPreRunE
	root.PersistentPreRunE = func(cmd *cobra.Command, args []string) error {
		begun = true
		return prepare(cmd, args)
	}
	cmd, err := root.ExecuteContextC(ctx)
	_, printing := errors.AsType[*printError](err) // of --help and --version
	if err != nil && !begun && !printing && !errors.Is(err, errUsage) {
		err = commandError(cmd, err)
	}
	nameSettings(cmd.Flags(), err)
	return cmd, err
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
			if err := setLogger(cmd); err != nil {
				return err
			}
			if !isChild() {
				warnOfVariables(cmd.Root())
			}
			return nil
		},
	}
	root.SetFlagErrorFunc(flagError)
	flags := root.PersistentFlags()
	flags.String("config", "", "file of settings in TOML; "+defaultConfig+" is read if it is there")
	choiceVar(flags, new(string), "log-level", "info", logLevels, "from what level on to log: "+strings.Join(logLevels, ", "))
	choiceVar(flags, new(string), "log-format", "text", logFormats, "how to log: "+strings.Join(logFormats, ", "))
	addCommands(root)
	completeChoices(root)
	setHelp(root)
	return root
}

// addCommands adds all commands, in the groups in which --help shows them.
func addCommands(root *cobra.Command) {
	for _, group := range []struct {
		title    string
		commands []*cobra.Command
	}{
		{"Serving:", []*cobra.Command{newServe(), newMount(), newWarm(), newStatus(), newAdmin(), newNginxConfig(), newDoctor()}},
		{"Bases:", []*cobra.Command{newBake(), newBase(), newBootTest()}},
		{"Images and sticks:", []*cobra.Command{newPack(), newInspect(), newStick()}},
		{"Signatures:", []*cobra.Command{newKey(), newVerify()}},
	} {
		root.AddGroup(&cobra.Group{ID: group.title, Title: group.title})
		for _, cmd := range group.commands {
			cmd.GroupID = group.title
			root.AddCommand(cmd)
		}
	}
	root.AddCommand(newVersion(), newMan())
}

// The words that say how to log.
var (
	logLevels  = []string{"debug", "info", "warn", "error"}
	logFormats = []string{"text", "json"}
)

func setLogger(cmd *cobra.Command) error {
	var level slog.Level
	text, _ := cmd.Flags().GetString("log-level")
	if err := level.UnmarshalText([]byte(text)); err != nil {
		return err
	}
	options := &slog.HandlerOptions{Level: level}
	if format, _ := cmd.Flags().GetString("log-format"); format == "json" {
		slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stderr, options)))
	} else {
		slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, options)))
	}
	return nil
}
