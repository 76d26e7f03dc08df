package nginx

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/integration/testkit"
)

// certify makes a certificate for isofs.test that signs itself, and puts it and
// its key where c says.
func certify(t *testing.T, c Config) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	made := &x509.Certificate{
		Subject: pkix.Name{CommonName: "isofs.test"}, DNSNames: []string{"isofs.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, made, made, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, c.Host.Certificate, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, c.Host.Key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})))
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return roots
}

// httpsRig is a rig that serves HTTPS, and HTTP at the address that it returns.
func httpsRig(t *testing.T) (r *rig, roots *x509.CertPool, plain string) {
	t.Helper()
	r = newRig(t, func(c *Config) {
		dir := t.TempDir()
		c.Host = Host{
			Names: []string{"isofs.test", "*.isofs.test"}, Certificate: filepath.Join(dir, "full chain.pem"), Key: filepath.Join(dir, "key.pem"),
			Redirect: []string{freeAddress(t)}, Challenges: filepath.Join(dir, "acme"),
		}
		roots = certify(t, *c)
	})
	return r, roots, r.config.Host.Redirect[0]
}

// secure gets a target by HTTPS from a server whose certificate the roots accept.
func (r *rig) secure(roots *x509.CertPool, version uint16, target string, headers ...string) (*http.Response, error) {
	r.t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "isofs.test", MaxVersion: version}, DisableKeepAlives: true}
	req, err := http.NewRequest("GET", "https://"+r.addr+target, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Host = "isofs.test"
	for _, line := range headers {
		key, value, _ := strings.Cut(line, ": ")
		req.Header.Set(key, value)
	}
	return transport.RoundTrip(req)
}

func TestTLS(t *testing.T) {
	r, roots, plain := httpsRig(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		got, err := r.secure(roots, version, image, "Range: bytes=4-8")
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(got.Body)
		if got.StatusCode != 206 || string(text) != body[4:9] || got.ProtoMajor != 1 {
			t.Errorf("by TLS %x: %d %s %q", version, got.StatusCode, got.Proto, text)
		}
	}
	if _, err := r.secure(roots, tls.VersionTLS11, image); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	r.requests()
	if got, err := r.secure(roots, 0, "/big-os.iso"); err != nil || got.StatusCode != 200 {
		t.Errorf("by way of the API: %v %v", got, err)
	} else if asked := r.requests(); len(asked) != 1 || asked[0].Header.Get("X-Forwarded-Proto") != "https" || asked[0].Host != "isofs.test" {
		t.Errorf("the API got %+v", asked)
	}
	// HTTP at the address of HTTPS is refused, and at the other one sent there.
	if got := r.do("GET", image); got.StatusCode != 400 {
		t.Errorf("HTTP at the address of HTTPS: %d", got.StatusCode)
	}
	https := r.addr
	r.addr = plain
	_, port, _ := splitListen(https)
	for _, target := range []string{"/", "/os?piece=$39j&x=%20", "/notepat-os.iso"} {
		if got := r.do("GET", target); got.StatusCode != 301 || got.Header.Get("Location") != "https://isofs.test:"+port+target {
			t.Errorf("%s by HTTP: %d to %q", target, got.StatusCode, got.Header.Get("Location"))
		}
	}
	challenges := filepath.Join(r.config.Host.Challenges, ".well-known", "acme-challenge")
	if err := os.MkdirAll(challenges, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(challenges, "token"), "answer")
	if got := r.do("GET", "/.well-known/acme-challenge/token"); got.StatusCode != 200 || got.body != "answer" {
		t.Errorf("the answer to an authority: %d %q", got.StatusCode, got.body)
	}
	if got := r.do("GET", "/healthz"); got.StatusCode != 404 { // of the rig's API
		t.Errorf("/healthz by HTTP: %d", got.StatusCode)
	}
}

// TestNewCertificate: nginx takes over a new one without cutting a download,
// refuses a wrong one, and an unchanged one changes nothing.
func TestNewCertificate(t *testing.T) {
	r, old, _ := httpsRig(t)
	running, err := r.secure(old, 0, big)
	if err != nil {
		t.Fatal(err)
	}
	if changed, err := r.server.Refresh(r.config); changed || err != nil {
		t.Errorf("nothing changed: %v, %v", changed, err)
	}
	roots := certify(t, r.config)
	if changed, err := r.server.Refresh(r.config); !changed || err != nil {
		t.Fatalf("a new certificate: %v, %v", changed, err)
	}
	// New workers have it; a connection may still meet an old one.
	testkit.Eventually(t, "the new certificate", func() bool { _, err := r.secure(roots, 0, image); return err == nil })
	write(t, r.config.Host.Key, "no key")
	if changed, err := r.server.Refresh(r.config); err == nil || !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "key.pem") {
		t.Errorf("a wrong key: %v, %v", changed, err)
	}
	if err := os.Remove(r.config.Host.Key); err != nil {
		t.Fatal(err)
	}
	if changed, err := r.server.Refresh(r.config); changed || !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "key.pem") {
		t.Errorf("no key: %v, %v", changed, err)
	}
	// An old worker may take a connection until it reads that it shall end.
	testkit.Eventually(t, "the new certificate after all that", func() bool {
		got, err := r.secure(roots, 0, image, "Range: bytes=0-3")
		return err == nil && got.StatusCode == 206
	})
	if n, err := io.Copy(io.Discard, running.Body); n != bigLen || err != nil {
		t.Errorf("the download that ran has %d of %d bytes: %v", n, bigLen, err)
	}
}

// TestChallengesBeforeThereIsACertificate: the first certificate is issued by HTTP.
func TestChallengesBeforeThereIsACertificate(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Host.Challenges = t.TempDir() })
	dir := filepath.Join(r.config.Host.Challenges, ".well-known", "acme-challenge")
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.Chmod(r.config.Host.Challenges, 0o755)); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "token"), "answer")
	if got := r.do("GET", "/.well-known/acme-challenge/token"); got.StatusCode != 200 || got.body != "answer" {
		t.Errorf("%d %q", got.StatusCode, got.body)
	}
	for _, target := range []string{"/.well-known/acme-challenge/../../../etc/passwd", "/.well-known/acme-challenge/", "/.well-known/acme-challenge/none"} {
		if got := r.do("GET", target); got.StatusCode < 400 {
			t.Errorf("%s: %d %q", target, got.StatusCode, got.body)
		}
	}
}

func TestHostIsChecked(t *testing.T) {
	good := Host{Names: []string{"a.example", "*.b.example"}, Certificate: "/c.pem", Key: "/k.pem", Redirect: []string{"80"}, Challenges: "/var/www"}
	for want, change := range map[string]func(*Host){
		"":                        func(*Host) {},
		`server name "a b"`:       func(h *Host) { h.Names[0] = "a b" },
		`server name "x;"`:        func(h *Host) { h.Names[0] = "x;" },
		`server name "~^.*$"`:     func(h *Host) { h.Names[0] = "~^.*$" },
		`server name ""`:          func(h *Host) { h.Names[0] = "" },
		"only one of them":        func(h *Host) { h.Key = "" },
		"not an absolute path":    func(h *Host) { h.Certificate = "c.pem" },
		"cannot carry":            func(h *Host) { h.Key = `/k".pem` },
		"ACME challenges \"www\"": func(h *Host) { h.Challenges = "www" },
		"given twice":             func(h *Host) { h.Redirect = []string{"127.0.0.1:8080"} },
		"there is no https":       func(h *Host) { h.Certificate, h.Key, h.Challenges = "", "", "" },
		"nothing listens":         func(h *Host) { h.Redirect = nil },
	} {
		c := smallConfig()
		c.Host = good
		c.Host.Names = []string{"a.example", "*.b.example"}
		change(&c.Host)
		err := c.Validate()
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || !errors.Is(err, fault.Invalid)) {
			t.Errorf("%+v: %v, want %q", c.Host, err, want)
		}
	}
}
