package server

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"aesthetic.computer/isofs/border"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/nginx"
)

// WebConfig says how nginx is run.
type WebConfig struct {
	Binary string // name or path
	Nginx  nginx.Config
	Grace  time.Duration // how long running downloads go on after a stop
}

// LogDir is the directory of nginx's access log; "" if that is not a file.
func (w *WebConfig) LogDir() string {
	log := w.Nginx.AccessLog
	if !filepath.IsAbs(log) || strings.HasPrefix(log, "/dev/") {
		return ""
	}
	return filepath.Dir(log)
}

// CertificateSoon is how long before its end a certificate is in the log as a warning.
const CertificateSoon = 14 * 24 * time.Hour

// Certificate checks that nginx, started by this user, can use the certificate of a host, and
// returns when that expires; the zero time if the host has none. Errors are fault.SettingErrors
// or a *fault.SettingError, of nginx's settings.
func Certificate(h nginx.Host) (expires time.Time, err error) {
	if h.Certificate == "" {
		return time.Time{}, nil
	}
	if os.Geteuid() == 0 {
		// Root's nginx must not read, or name in messages, what others put there.
		var wrong fault.SettingErrors
		for setting, path := range map[string]string{nginx.SettingCertificate: h.Certificate, nginx.SettingKey: h.Key} {
			if err := border.Check(path); err != nil {
				wrong.Add(setting, err)
			}
		}
		if wrong != nil {
			return time.Time{}, wrong
		}
	}
	pair, err := tls.LoadX509KeyPair(h.Certificate, h.Key)
	if err != nil {
		return time.Time{}, certificateError("%s, with the key %s: %w: %w", h.Certificate, h.Key, fault.Invalid, err)
	}
	for _, name := range h.Names {
		if err := pair.Leaf.VerifyHostname(strings.Replace(name, "*.", "any.", 1)); err != nil {
			return time.Time{}, certificateError("%s is not for %s %s: %w: %w", h.Certificate, nginx.SettingServerName, name, fault.Invalid, err)
		}
	}
	return pair.Leaf.NotAfter, nil
}

func certificateError(format string, a ...any) error {
	return &fault.SettingError{Setting: nginx.SettingCertificate, Err: fmt.Errorf(format, a...), Predicate: true}
}

// checkCertificate checks the certificate that nginx reads, and logs when it expires.
func (c *Config) checkCertificate() error {
	if c.Web == nil {
		return nil
	}
	host := c.Web.Nginx.Host
	expires, err := Certificate(host)
	if err != nil {
		return err
	}
	switch left := time.Until(expires); {
	case expires.IsZero():
	case left <= 0:
		c.Log.Warn("the certificate has expired: browsers refuse it", "certificate", host.Certificate, "expired", expires)
	case left < CertificateSoon:
		c.Log.Warn("the certificate expires soon; after renewing it send SIGHUP", "certificate", host.Certificate, "expires", expires)
	default:
		c.Log.Info("serving https", "certificate", host.Certificate, "expires", expires)
	}
	return nil
}

// explain names settings as the operator does.
func (c *Config) explain(err error) error {
	if err == nil || c.Services.Explain == nil {
		return err
	}
	return c.Services.Explain(err)
}

// RefreshWeb makes nginx take over what changed in the Config since it started, and open its
// log again. If something is wrong nginx stays as it was, and the log says so.
func (c *Config) RefreshWeb(web *nginx.Server) {
	if web == nil {
		return
	}
	if err := errors.Join(c.makeDirectories(), c.explain(c.checkCertificate())); err != nil {
		c.Log.Error("nginx stays as it was", "err", err)
		return
	}
	changed, err := web.Refresh(c.Web.Nginx)
	switch {
	case err != nil:
		c.Log.Error("nginx stays as it was", "err", err)
	case changed:
		c.Log.Info("nginx has new settings and opened its log again", "access_log", c.Web.Nginx.AccessLog)
	default:
		c.Log.Info("nginx opened its log again", "access_log", c.Web.Nginx.AccessLog)
	}
}
