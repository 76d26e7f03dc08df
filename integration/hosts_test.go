package integration

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"aesthetic.computer/isofs/integration/s3test"
	"aesthetic.computer/isofs/integration/testkit"
)

// Servers of the test itself. The commands of the pages listen on 127.0.0.1.
const (
	otherHost = "127.0.1.1"
	amazon    = "amazonaws.com"
	// The server behind https://images.example. It stands for another operator's.
	imagesExample = otherHost + ":8090"
)

// regions are the regions in which the examples have their bucket.
var regions = []string{"us-east-1", "eu-central-1"}

// An elsewhere is what the pages find at other hosts. It is prepared once for all machines.
type elsewhere struct {
	dir     string // base/, web/ of cdn.example, s3/ with the bucket, packed.sha256
	program string // isofs without the race detector
}

func newElsewhere(t *testing.T, program string) *elsewhere {
	t.Helper()
	dir, err := os.MkdirTemp(workDir, "elsewhere-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, "sh", "-euc", `umask 022; cd "$0"; chmod 755 .; mkdir base s3
ln "$2"/* base/
mkdir -p web/bases/tiny/amd64/2026-12-01
ln -s ../../../../base web/bases/tiny/amd64/2026-11-01
ln base/base.iso web/bases/tiny/amd64/2026-12-01/
"$1" base index base/base.iso --flavor tiny --base-version 2026-12-01 -o web/bases/tiny/amd64/2026-12-01/manifest.json
"$1" base publish base --to web/images
"$1" pack notepat --user root --base base --state state --cache memory -o packed.iso
sha256sum <packed.iso >packed.sha256
rm -r state packed.iso`, dir, program, baseDir)
	server := s3test.StartHosted(t, filepath.Join(dir, "s3"), regions[0], amazon)
	server.MakeBucket("bucket")
	for key, file := range map[string]string{
		"bases/tiny/amd64/2026-11-01/base.iso": "base.iso", "bases/tiny/amd64/2026-11-01/manifest.json": "manifest.json", "copies/tiny.iso": "base.iso",
	} {
		data, err := os.ReadFile(filepath.Join(baseDir, file))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := server.Client.PutObject(context.Background(), &s3.PutObjectInput{Bucket: aws.String("bucket"), Key: &key, Body: bytes.NewReader(data)}); err != nil {
			t.Fatal(err)
		}
	}
	server.Kill()
	return &elsewhere{dir, program}
}

// startImages runs the server behind https://images.example, which signs.
func (m *machine) startImages() {
	m.t.Helper()
	must(m.t, "sh", "-euc", `mkdir /mnt/images; cd /mnt/images
isofs key new --name "Example Images" --email images@images.example --out sign.asc`)
	log, err := os.Create(scratch + "/images/log")
	if err != nil {
		m.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command("isofs", "serve", "--user", "root", "--base", elseBase, "--state", "state", "--mount", "mnt", "--run", "run",
		"--listen", imagesExample, "--sign-key", "sign.asc", "--public-url", "https://images.example", "--access-log", "off")
	cmd.Dir, cmd.Stdout, cmd.Stderr = scratch+"/images", log, log
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	testkit.Eventually(m.t, "images.example", func() bool { return answers("http://" + imagesExample + "/healthz") })
}

// startHosts answers https for all host names of the examples, with a certificate that this machine
// trusts. It serves files from folder.
func startHosts(t *testing.T, folder string, buckets map[string]*s3test.Server) {
	t.Helper()
	hosts := map[string]http.Handler{
		"cdn.example":               http.FileServer(http.Dir(folder)),
		"other.example":             http.FileServer(http.Dir(folder)),
		"images.example":            passedOn(t, "http://"+imagesExample),
		"oven.aesthetic.computer":   newOven(t, map[string]http.HandlerFunc{"piece=tone": baked(page("tone", 1000))}).Config.Handler,
		"isofs.example":             passedOn(t, "http://"+imagesExample),
		"openpgpkey.images.example": passedOn(t, "http://"+imagesExample),
	}
	for region, server := range buckets {
		hosts["bucket.s3."+region+"."+amazon] = passedOn(t, server.Endpoint())
	}
	names := make([]string, 0, len(hosts))
	for name := range hosts {
		names = append(names, name)
	}
	certificate := trusted(t, append(names, ownName))
	certify(t, certificate)
	// On IPv6, port 443 stays free for the commands of the pages.
	listener, err := net.Listen("tcp", "[::1]:443")
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if h := hosts[r.Host]; h != nil {
				h.ServeHTTP(w, r)
				return
			}
			http.NotFound(w, r)
		}),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}},
	}
	go func() { _ = web.ServeTLS(listener, "", "") }() // until it is closed
	t.Cleanup(func() { web.Close() })
	appendTo(t, "/etc/hosts", "::1 "+strings.Join(names, " ")+"\n127.0.0.1 "+ownName+"\n")
}

// ownName is the pages' name of the machine on which they are typed.
const ownName = "downloads.example"

// certify writes a certificate to the place that certbot uses.
func certify(t *testing.T, c tls.Certificate) {
	t.Helper()
	dir := "/etc/letsencrypt/live/" + ownName
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	writePair(t, c, filepath.Join(dir, "fullchain.pem"), filepath.Join(dir, "privkey.pem"))
}

// passedOn is a proxy that keeps the host name that the client sent.
func passedOn(t *testing.T, to string) http.Handler {
	t.Helper()
	target, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	return &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host },
		Transport:     &http.Transport{DisableCompression: true},
		FlushInterval: -1,
	}
}

// trusted makes a certificate for the names, and makes this machine trust it.
func trusted(t *testing.T, names []string) tls.Certificate {
	t.Helper()
	c := selfSigned(t, names)
	appendTo(t, "/etc/ssl/certs/ca-certificates.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})))
	return c
}

// selfSigned makes a self-signed certificate for the names.
func selfSigned(t *testing.T, names []string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		Subject: pkix.Name{CommonName: "the documents' test"}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}
