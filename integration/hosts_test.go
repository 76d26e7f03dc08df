package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"aesthetic.computer/isofs/integration/s3test"
)

// What the examples of the pages call by name lies on one loopback address.
const (
	elsewhere = "127.0.1.1"
	amazon    = "amazonaws.com"
	// Behind https://images.example, which is somebody else's server.
	imagesExample = elsewhere + ":8090"
)

// regions are those in which the examples have the bucket.
var regions = []string{"us-east-1", "eu-central-1"}

// loopback has the name space's only network interface work.
func loopback(t *testing.T) {
	t.Helper()
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(socket)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, lo); err != nil {
		t.Fatal(err)
	}
}

// startHosts answers https at all names of the examples, with a certificate that
// this machine trusts. Files are those below folder.
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
	listener, err := net.Listen("tcp", elsewhere+":443")
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
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{trusted(t, names)}},
	}
	go func() { _ = web.ServeTLS(listener, "", "") }() // until it is closed
	t.Cleanup(func() { web.Close() })
	appendTo(t, "/etc/hosts", elsewhere+" "+strings.Join(names, " ")+"\n")
}

// passedOn is a proxy that leaves the host's name as the client sent it.
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

// trusted makes a certificate of the names, and has this machine trust its issuer.
func trusted(t *testing.T, names []string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "the documents' test"}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	appendTo(t, "/etc/ssl/certs/ca-certificates.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
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
