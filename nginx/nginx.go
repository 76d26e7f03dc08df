// Package nginx renders, checks and supervises the configuration of a stock
// nginx (1.22 or newer, core modules only) that serves an isofs mount.
//
// The bytes of images go from the mount to the client through nginx alone, so Range,
// resume, validators and limits are nginx's. Unless a request is a plain
// continuation, nginx asks the API first, on a unix socket. The API answers itself,
// or names a file of the mount by X-Accel-Redirect. nginx.conf.tmpl decides which
// request goes which way, with a reason beside each directive.
//
// What the API may rely on, and must do:
//
//   - X-Real-IP is the client's address, whatever the client sent; Host is the
//     client's; Range, If-Range, If-None-Match and User-Agent arrive as sent.
//   - "X-Accel-Redirect: /_mount/<id>/<file>" serves <Mount>/s/<id>/<file>.
//     Cache-Control, Content-Type, Digest, Repr-Digest, Link, Vary, X-Isofs-Snapshot,
//     Access-Control-Allow-Origin and -Expose-Headers of that answer reach the
//     client; of each only the first line does (nginx before 1.23). Without
//     Content-Type the suffix decides. Length, ETag and Last-Modified are the
//     file's. The API must not send Accept-Ranges, which nginx would send twice,
//     and need not send Content-Disposition, which nginx makes for images (and
//     would keep even on its 503, when the file cannot be read).
//   - "X-Isofs-Piece" names the piece in the access log, and goes no further.
//   - A stream is at /os or /api/os, sends "X-Accel-Buffering: no" and a comment at
//     least once a minute. Requests there have a share of their own, without a total.
//   - The API keeps idle connections for longer than 30 seconds, since nginx
//     drops them by then and cannot repeat a POST that met a closed one.
//
// The package leaves out where certificates come from, the mount, the API, and the
// texts about a piece.
package nginx

// A Profile is one of the two ways to read the mount (DESIGN.md, invariant 6).
// The empty Profile is Direct.
type Profile string

// The profiles; the mount must have been made with the same one.
const (
	Direct    Profile = "direct"
	PageCache Profile = "page-cache"
)

// defaultThreads suits reads that wait for a CDN at some 20 to 100 ms each: that many
// cold blocks can be awaited at once.
const defaultThreads = 32

// Config is all that the configuration is rendered from. Paths are absolute.
type Config struct {
	Listen    []string // "127.0.0.1:8080", "[::1]:80", "8080" (all IPv4 addresses)
	Mount     string   // the isofs mount; images are at Mount/s/<id>/<name>-os.iso
	APISocket string   // unix socket of isofs's API; User must be able to connect to it
	RunDir    string   // nginx.conf, pid file and temporary paths of the supervised nginx
	AccessLog string   // "off" or "", a path, or "/dev/stdout"
	User      string   // of the workers, "name" or "name:group"; "" when not started by root
	Profile   Profile
	Workers   int // 0: one per core
	Threads   int // of the pool that reads the mount, per worker; 0: 32
	Limits    Limits
	Host      Host

	// TrustedProxies are the addresses ("10.0.0.1", "10.0.0.0/8") whose
	// X-Forwarded-For and X-Forwarded-Proto nginx believes; it ignores those of other
	// clients.
	TrustedProxies []string
}

// A Host is what the server answers as. The zero Host answers to every name, by HTTP.
type Host struct {
	Names []string // of the server ("images.example"); none: every name

	// Certificate and Key are files in PEM, of the chain and of its private key. With
	// them all of Config.Listen is HTTPS. nginx's master reads them, as the user that
	// started it, and again at each Reload.
	Certificate, Key string
	// Redirect are addresses as in Config.Listen where HTTP is sent to HTTPS.
	Redirect []string
	// Challenges is the folder in which an ACME client answers its authority, at
	// .well-known/acme-challenge wherever the server speaks HTTP; "": none.
	Challenges string
}

// tls reports whether the server speaks HTTPS.
func (h Host) tls() bool { return h.Certificate != "" }

// Scheme returns https or http, the scheme of Config.Listen.
func (h Host) Scheme() string {
	if h.tls() {
		return "https"
	}
	return "http"
}

// Limits are per client, which is an IPv4 address or the /64 of an IPv6 one; 0 means
// no limit. A request beyond one gets 429. The three of Connections hold once for
// downloads (images, and what is in their slots) and once for pages and sidecars.
// TotalConnections does not count clients that wait at /os. No limit holds for
// /healthz and /readyz.
type Limits struct {
	Connections       int   // limit_conn: requests in progress at once
	Network           int   // the same of a network: an IPv4 /24, an IPv6 /64
	TotalConnections  int   // the same of all clients; downloads take 2 MB each for slow readers in profile Direct
	RequestsPerSecond int   // limit_req, on average
	Burst             int   // limit_req burst: requests above the average, answered at once
	BytesPerSecond    int64 // limit_rate, per connection

	// CostlyPerSecond and CostlyBurst are as RequestsPerSecond and Burst, for the
	// addresses that have work done: /os, /api/os and all below /admin/.
	CostlyPerSecond int
	CostlyBurst     int
}
