package main

import (
	"log/slog"

	"github.com/spf13/cobra"

	"aesthetic.computer/isofs/doctor"
	"aesthetic.computer/isofs/settings"
)

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
		ValidArgs: doctor.Purposes,
		RunE: func(cmd *cobra.Command, args []string) error {
			purposes := []string{"serve", "bake"}
			if len(args) == 1 {
				purposes = args
			}
			o.web.enabled = true
			if err := o.complete(); err != nil {
				return err
			}
			config := o.config(slog.Default())
			if err := settings.Usage(o.stack.limits.validate(), blameFlags(config.Web.Nginx.Validate())); err != nil {
				return err
			}
			return doctor.Doctor{Server: config, User: o.stack.user}.Examine(cmd.Context(), cmd.OutOrStdout(), purposes)
		},
	}
	o.register(cmd)
	flagGroups.Hide(cmd, "Base", "Cache", "Pieces", "Web", "Limits", "Signing", "Operator")
	return cmd
}
