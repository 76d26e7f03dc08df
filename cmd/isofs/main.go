// Command isofs mounts a directory in which every piece already is a bootable
// ISO, and serves it with a stock nginx.
//
// This package turns flags, environment and file into the Config of a package, calls that,
// and prints the result; there is one file per subcommand. Where root started it, it starts
// itself again as another user. At SIGHUP it reads the settings again.
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
	"aesthetic.computer/isofs/output"
	"aesthetic.computer/isofs/server"
	"aesthetic.computer/isofs/settings"
	"aesthetic.computer/isofs/stick"
	"aesthetic.computer/isofs/store"
)

// Exit statuses, for scripts.
const (
	exitFailed   = 1 // something went wrong
	exitUsage    = 2 // wrong flags, arguments or configuration
	exitCorrupt  = 3 // bytes were not what they should be
	exitConflict = 4 // another publisher was at work at the same time
	exitOther    = 5 // the stick has another base than the piece needs, or a changed one
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	root, printed := newRoot(), output.NewPrinter(os.Stdout)
	root.SetOut(printed)
	cmd, err := execute(ctx, root)
	err = printed.Close(err)
	stop()
	if err == nil {
		return
	}
	if child, ok := errors.AsType[*server.ChildError](err); ok && child.Status() > 0 {
		os.Exit(child.Status()) // the child has printed why
	}
	fmt.Fprintf(os.Stderr, "isofs: %v\n", err)
	if hint := hintFor(cmd, err); hint != "" {
		fmt.Fprintf(os.Stderr, "hint: %s\n", hint)
	}
	os.Exit(exitStatus(err))
}

// execute runs the command that the arguments name. All that fails before it begins is wrong
// usage: cobra's own errors, of unknown commands and wrong numbers of arguments, count as
// that here.
func execute(ctx context.Context, root *cobra.Command) (*cobra.Command, error) {
	began := false
	prepare := root.PersistentPreRunE
	root.PersistentPreRunE = func(cmd *cobra.Command, args []string) error {
		began = true
		return prepare(cmd, args)
	}
	cmd, err := root.ExecuteContextC(ctx)
	_, printing := errors.AsType[*output.PrintError](err) // of --help and --version
	if err != nil && !began && !printing && !errors.Is(err, settings.ErrUsage) {
		err = settings.CommandError(cmd, err)
	}
	err = blameFlags(err)
	settings.Name(cmd.Flags(), err)
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
	case errors.Is(err, settings.ErrUsage), errors.Is(err, fault.Invalid):
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
		Version:           version(),
		SilenceUsage:      true,
		SilenceErrors:     true,
		PersistentPreRunE: prepare,
	}
	root.SetFlagErrorFunc(settings.FlagError)
	flags := root.PersistentFlags()
	flags.String("config", "", "file of settings in TOML; "+settings.DefaultFile+" is read if it is there")
	settings.ChoiceVar(flags, new(string), "log-level", "info", logLevels, "lowest level to log: "+strings.Join(logLevels, ", "))
	settings.ChoiceVar(flags, new(string), "log-format", "text", logFormats, "how to log: "+strings.Join(logFormats, ", "))
	addCommands(root)
	settings.CompleteChoices(root, offered)
	flagGroups.SetHelp(root)
	return root
}

// prepare runs before a command: it reads the settings and sets up the log.
func prepare(cmd *cobra.Command, _ []string) error {
	if err := bind(cmd); err != nil {
		return err
	}
	if reloadIn(cmd.Context()) != nil {
		return nil // the log stays as it is
	}
	if err := setLogger(cmd); err != nil {
		return err
	}
	if !server.IsChild() {
		warnOfVariables(cmd.Root())
	}
	return nil
}

// bind gives values to the flags that were not typed: in a child those that its parent sends,
// else those of environment and file.
func bind(cmd *cobra.Command) error {
	if !server.IsChild() {
		return settings.Bind(cmd, overridden)
	}
	var sent settings.Values
	if err := server.Receive(&sent); err != nil {
		return err
	}
	return sent.Apply(cmd.Flags())
}

// warnOfVariables names variables that look like settings and are not. It only warns, unlike
// for a file: scripts and other programs have variables, too.
func warnOfVariables(root *cobra.Command) {
	for name, near := range settings.Strange(root, os.Environ(), ownVariables) {
		slog.Warn(name + " is not a setting of isofs, and changes nothing" + near)
	}
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
