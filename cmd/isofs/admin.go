package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/settings"
)

// adminCall is a request to a running server.
type adminCall struct {
	server runningServer
	key    adminFlags
	json   bool
}

func newAdmin() *cobra.Command {
	var c adminCall
	cmd := &cobra.Command{
		Use:   "admin",
		Short: "Control a running server",
		Long: `admin speaks to the server of this machine, by the socket in --run. It needs the server's
key, from --admin-key-file or the environment (ISOFS_ADMIN_KEY, OS_BUILD_ADMIN_KEY), since
nginx can connect to the socket, too. docs/admin.md has what can be asked over HTTP.`,
		Example: `  isofs admin refresh notepat
  isofs admin base https://cdn.example/bases/tiny/amd64/2026-12-01`,
		Args: settings.OnlyCommands,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	flags := cmd.PersistentFlags()
	c.server.register(flags)
	flags.StringVar(&c.key.keyFile, "admin-key-file", "", "file with the server's key, readable by its owner only")
	flags.BoolVar(&c.json, "json", false, "print the server's answer as it is")
	c.addActions(cmd)
	return cmd
}

// addActions adds a command for each action of docs/admin.md.
func (c *adminCall) addActions(cmd *cobra.Command) {
	var piece, snapshot string
	var all bool
	action := func(name, use, short string, args cobra.PositionalArgs, query func(args []string) url.Values) *cobra.Command {
		sub := &cobra.Command{Use: use, Short: short, Args: args, RunE: func(cmd *cobra.Command, args []string) error {
			return c.do(cmd.Context(), cmd.OutOrStdout(), name, query(args))
		}}
		cmd.AddCommand(sub)
		return sub
	}
	action("refresh", "refresh PIECE", "Fetch a piece's bundle now", cobra.ExactArgs(1),
		func(args []string) url.Values { return url.Values{"piece": args} })
	drop := action("drop", "drop (--piece PIECE | --snapshot ID)", "Forget a snapshot, or all of a piece; open downloads go on", cobra.NoArgs,
		func([]string) url.Values { return given("piece", piece, "snapshot", snapshot) })
	drop.Flags().StringVar(&piece, "piece", "", "piece of which all snapshots are to be forgotten")
	drop.Flags().StringVar(&snapshot, "snapshot", "", "id of the snapshot to be forgotten")
	list := action("snapshots", "snapshots", "List the snapshots that are kept", cobra.NoArgs,
		func([]string) url.Values { return given("piece", piece) })
	list.Flags().StringVar(&piece, "piece", "", "only those of this piece")
	prune := action("prune", "prune", "Forget superseded snapshots that are past their time", cobra.NoArgs,
		func([]string) url.Values {
			if all {
				return url.Values{"all": {"1"}}
			}
			return nil
		})
	prune.Flags().BoolVar(&all, "all", false, "also those that are not past their time, unless somebody reads them")
	action("base", "base ADDRESS", "Make new images on another base, until the server is restarted", cobra.ExactArgs(1),
		func(args []string) url.Values { return url.Values{"address": args} })
	action("channel", "channel", "Look at once at the channel that the server follows", cobra.NoArgs,
		func([]string) url.Values { return nil })
}

// given returns those names and values that have a value.
func given(pairs ...string) url.Values {
	query := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			query.Set(pairs[i], pairs[i+1])
		}
	}
	return query
}

// do sends the request and prints the answer.
func (c *adminCall) do(ctx context.Context, out io.Writer, action string, query url.Values) error {
	key, err := c.key.read()
	if err != nil {
		return err
	}
	if key == "" {
		return settings.Usage(settings.Wrong("admin-key-file", "is needed, or a key in %s", strings.Join(keyVariables, " or ")))
	}
	client, err := c.server.client()
	if err != nil {
		return err
	}
	answer, err := client.Admin(ctx, key, action, query)
	if err != nil {
		return err
	}
	if c.json {
		_, err = out.Write(answer)
		return err
	}
	return printAnswer(out, answer)
}

// printAnswer prints an object as lines, and a list of objects as a table.
func printAnswer(out io.Writer, answer []byte) error {
	var list struct {
		Snapshots []struct {
			Piece, ID, Base, Time string
			Size                  int64
			Current, InUse        bool
		}
	}
	var object map[string]any
	if err := errors.Join(json.Unmarshal(answer, &list), json.Unmarshal(answer, &object)); err != nil {
		return fmt.Errorf("understand the server's answer: %w: %w", fault.Corrupt, err)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if list.Snapshots == nil {
		for _, name := range slices.Sorted(maps.Keys(object)) {
			fmt.Fprintf(w, "%s\t%v\n", name, object[name])
		}
		return w.Flush()
	}
	for _, s := range list.Snapshots {
		state := "superseded"
		if s.Current {
			state = "current"
		}
		if s.InUse {
			state += ", in use"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%.12s\t%s\n", s.Piece, s.ID, s.Time, s.Size, s.Base, state)
	}
	return w.Flush()
}
