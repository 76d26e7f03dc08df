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
		Short: "Check what this machine is missing, and how to install it",
		Long: `doctor looks for what isofs needs: to serve, to bake bases, to run the tests. Its exit
status is 0 if nothing is missing for what was asked (serve and bake by default).

For serve it takes all flags of isofs serve, and reads the environment and the file of settings
as serve does. It checks the user, the directories and the addresses. While the server runs it
checks that the mount and the addresses are that server's. It checks that the base can be
reached, and that there is room and memory for what the settings allow.

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
