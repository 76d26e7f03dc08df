package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"aesthetic.computer/isofs/border"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/nginx"
)

// hostFlags say what the web server answers as.
type hostFlags struct{ nginx.Host }

func (o *hostFlags) register(flags *pflag.FlagSet) {
	flags.StringSliceVar(&o.Names, "server-name", nil, "host name that nginx answers to (repeatable; default every name)")
	flags.StringVar(&o.Certificate, "tls-cert", "", "file with the certificate and its chain (PEM): all of --listen is https then; read again at SIGHUP")
	flags.StringVar(&o.Key, "tls-key", "", "file with the private key of --tls-cert (PEM)")
	flags.StringSliceVar(&o.Redirect, "redirect-from", nil, "addresses where http is sent to https, such as 80")
	flags.StringVar(&o.Challenges, "acme-webroot", "", "folder of .well-known/acme-challenge, answered by http: what certbot calls --webroot-path")
}

// complete makes the paths absolute.
func (o *hostFlags) complete() error {
	for _, path := range []*string{&o.Certificate, &o.Key, &o.Challenges} {
		if *path == "" {
			continue
		}
		if err := absolute(path); err != nil {
			return err
		}
	}
	return nil
}

// scheme is that of --listen.
func (o *hostFlags) scheme() string {
	if o.Certificate != "" {
		return "https"
	}
	return "http"
}

// check looks whether nginx, started by this user, can use the certificate, and
// returns until when it is good. The zero time: there is none.
func (o *hostFlags) check() (until time.Time, err error) {
	if o.Certificate == "" {
		return time.Time{}, nil
	}
	if os.Geteuid() == 0 {
		// Root's nginx must not read, or name in messages, what others put there.
		if err := errors.Join(blame("tls-cert", border.Check(o.Certificate)), blame("tls-key", border.Check(o.Key))); err != nil {
			return time.Time{}, err
		}
	}
	pair, err := tls.LoadX509KeyPair(o.Certificate, o.Key)
	if err != nil {
		return time.Time{}, fmt.Errorf("--tls-cert %s, --tls-key %s: %w: %w", o.Certificate, o.Key, fault.Invalid, err)
	}
	for _, name := range o.Names {
		if err := pair.Leaf.VerifyHostname(strings.Replace(name, "*.", "any.", 1)); err != nil {
			return time.Time{}, fmt.Errorf("--tls-cert %s is not for --server-name %s: %w: %w", o.Certificate, name, fault.Invalid, err)
		}
	}
	return pair.Leaf.NotAfter, nil
}

// well looks whether the certificate can be used, and for a while to come.
func (o *hostFlags) well() error {
	until, err := o.check()
	if err == nil && time.Until(until) < soon {
		err = fmt.Errorf("it expires, or expired, at %s: renew it, and send SIGHUP", until)
	}
	return err
}

// soon is how long before its end a certificate is in the log as a warning.
const soon = 14 * 24 * time.Hour

// report says how long the certificate is good.
func (o *hostFlags) report(until time.Time, log *slog.Logger) {
	switch left := time.Until(until); {
	case until.IsZero():
	case left <= 0:
		log.Warn("the certificate has expired: browsers refuse it", "certificate", o.Certificate, "expired", until)
	case left < soon:
		log.Warn("the certificate expires soon; after renewing it send SIGHUP", "certificate", o.Certificate, "expires", until)
	default:
		log.Info("serving https", "certificate", o.Certificate, "expires", until)
	}
}
