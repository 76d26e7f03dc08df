package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"aesthetic.computer/isofs/nginx"
)

func newNginxConfig() *cobra.Command {
	var o serveFlags
	var site bool
	cmd := &cobra.Command{
		Use:   "nginx-config",
		Short: "Print the configuration of nginx, for one that you run yourself",
		Long: `nginx-config prints the configuration that serve would run nginx with. With --site it
prints only the part for an existing nginx, to be put into its conf.d folder; run
isofs mount beside it with the same --run and --mount. The other flags of serve are taken, too,
and are of no use here.`,
		Example: "  isofs nginx-config --site --listen 80 > /etc/nginx/conf.d/isofs.conf",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.web.enabled = true
			if err := o.complete(); err != nil {
				return err
			}
			render := nginx.Render
			if site {
				render = nginx.RenderSite
			}
			conf, err := render(o.nginxConfig())
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s", conf)
			return err
		},
	}
	o.register(cmd)
	flagGroups.Hide(cmd, "Base", "Cache", "Pieces", "Signing", "public-url", "peer-url", "nginx", "grace", "limit-watchers", "limit-fetches", "limit-snapshots",
		"limit-new", "limit-new-burst", "limit-new-total", "limit-new-total-burst", "admin-key-file", "metrics-listen")
	cmd.Flags().Lookup("profile").Hidden = false
	cmd.Flags().BoolVar(&site, "site", false, "only what belongs into the http block of an existing configuration")
	return cmd
}
