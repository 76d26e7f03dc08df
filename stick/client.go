package stick

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strings"
	"time"

	"aesthetic.computer/isofs/base"
	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/piece"
)

// A Client sends requests to servers of isofs.
type Client struct {
	// HTTP is http.DefaultClient if nil.
	HTTP *http.Client
	// Verifier checks the signatures of all that is downloaded to be written, and
	// of what is verified; nil: signatures are not checked.
	Verifier Verifier
	// Pause waits before attempt n, from 1 on, of a download that broke off. nil
	// waits for a second, and then twice as long each time.
	Pause func(ctx context.Context, n int) error
}

// A Download is an image as a server has it.
type Download struct {
	ID       string
	Name     piece.Name
	Manifest *base.Manifest // of its base
	// SHA256 is the image's, SlotSHA256 that of what is in its slot.
	SHA256, SlotSHA256 base.Hash

	client *Client
	folder *url.URL // .../s/<id>/
}

const (
	// maxSmall bounds a sidecar with a digest, or a signature, in bytes.
	maxSmall = 64 << 10
	// stall is how long a download may stand still.
	stall = time.Minute
	// attempts bounds the attempts in a row that bring no byte.
	attempts = 6
)

// Shape of an id, and of the header that names a snapshot's address.
var (
	idForm    = regexp.MustCompile(`^[0-9a-f]{32}$`)
	canonical = regexp.MustCompile(`<([^<>]*)>; *rel="?canonical"?`)
)

// Resolve finds the snapshot that an address means at the moment: the address of
// an image, of the page of a piece, or of /os?piece=.
func (c *Client) Resolve(ctx context.Context, address string) (*Download, error) {
	u, err := parseAddress(address)
	if err != nil {
		return nil, err
	}
	resp, err := c.do(ctx, http.MethodHead, u, "")
	if err != nil {
		return nil, err
	}
	resp.Body.Close()
	id := resp.Header.Get("X-Isofs-Snapshot")
	link := canonical.FindStringSubmatch(resp.Header.Get("Link"))
	switch named := namedPiece(u); {
	case resp.StatusCode == http.StatusNotFound && named != "":
		return nil, fmt.Errorf("there is no piece named %q at %s (%s): %w", named, u.Host, resp.Status, fault.NotFound)
	case resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= http.StatusInternalServerError:
		return nil, fmt.Errorf("get %s: the server answers %s: %w", u.Redacted(), resp.Status, fault.Unavailable)
	}
	if resp.StatusCode != http.StatusOK || !idForm.MatchString(id) || link == nil {
		return nil, fmt.Errorf("%s (%s) is not the address of an image on a server of isofs, like https://HOST/notepat-os.iso: %w",
			u.Redacted(), resp.Status, fault.Invalid)
	}
	at, err := resp.Request.URL.Parse(link[1])
	if err != nil || path.Base(path.Dir(at.Path)) != id {
		return nil, fmt.Errorf("the server names %q as the address of snapshot %s: %w", link[1], id, fault.Corrupt)
	}
	name, err := piece.ParseFileName(path.Base(at.Path))
	if err != nil {
		return nil, fmt.Errorf("the server's address of snapshot %s: %w", id, err)
	}
	return c.open(ctx, at.JoinPath(".."), id, name)
}

// ByID finds a snapshot by the id that a stick says it carries, at the server of
// an address. fault.NotFound if the server does not keep it any more.
func (c *Client) ByID(ctx context.Context, address, id, pieceName string) (*Download, error) {
	u, err := parseAddress(address)
	if err != nil {
		return nil, err
	}
	name, err := piece.ParseName(pieceName)
	if err != nil || !idForm.MatchString(id) {
		return nil, fmt.Errorf("the stick says that it carries %q, snapshot %q, which cannot be: %w", pieceName, id, fault.Corrupt)
	}
	root := u.Path
	if root != "" && !strings.HasSuffix(root, "/") && !strings.Contains(root, "/s/") && namedPiece(u) == "" {
		return nil, fmt.Errorf("%s is the address neither of a server of isofs, such as %s://%s/, nor of an image there: %w", u.Redacted(), u.Scheme, u.Host, fault.Invalid)
	}
	if at := strings.Index(root, "/s/"); at >= 0 {
		root = root[:at+1]
	}
	u.Path, u.RawPath, u.RawQuery = path.Join("/", path.Dir(root), "s", id), "", ""
	return c.open(ctx, u, id, name)
}

// parseAddress reads an address, and turns the address of a piece's page into
// that of its image.
func parseAddress(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%q is not an address like https://HOST/notepat-os.iso: %w", address, fault.Invalid)
	}
	u.Fragment = ""
	if at := strings.Index(u.Path, "/os:"); at >= 0 {
		u.RawQuery = url.Values{"piece": {u.Path[at+len("/os:"):]}}.Encode()
		u.Path, u.RawPath = u.Path[:at]+"/os", ""
	}
	return u, nil
}

// namedPiece returns the name of the piece in the address of an image; "" if it
// has none.
func namedPiece(u *url.URL) string {
	if path.Base(u.Path) == "os" {
		return u.Query().Get("piece")
	}
	name, err := piece.ParseFileName(path.Base(u.Path))
	if err != nil {
		return ""
	}
	return name.String()
}

// open reads the small files beside a snapshot.
func (c *Client) open(ctx context.Context, folder *url.URL, id string, name piece.Name) (*Download, error) {
	s := &Download{ID: id, Name: name, client: c, folder: folder}
	data, err := s.get(ctx, name.FileName()+".manifest", base.MaxManifestSize)
	if err != nil {
		return nil, err
	}
	if s.Manifest, err = base.Parse(data); err != nil {
		return nil, fmt.Errorf("the manifest of the base of snapshot %s: %w", id, err)
	}
	if s.SHA256, err = s.digestOf(ctx, name.FileName()); err != nil {
		return nil, err
	}
	s.SlotSHA256, err = s.digestOf(ctx, name.SlotFileName())
	return s, err
}

func (s *Download) digestOf(ctx context.Context, file string) (sum base.Hash, err error) {
	text, err := s.get(ctx, file+".sha256", maxSmall)
	if err != nil {
		return sum, err
	}
	digits, _, _ := strings.Cut(string(text), " ")
	if err := sum.UnmarshalText([]byte(digits)); err != nil {
		return sum, fmt.Errorf("read %s.sha256 of snapshot %s: %w: %w", file, s.ID, fault.Corrupt, err)
	}
	return sum, nil
}

// URL is the address of the image, which is the same for ever.
func (s *Download) URL() string { return s.folder.JoinPath(s.Name.FileName()).Redacted() }

// Slot downloads the content of the slot. It checks the slot's digest, the
// image's digest with the rest of the base, and the signature. The server sent
// both digests before.
func (s *Download) Slot(ctx context.Context, show Progress) ([]byte, error) {
	file := s.Name.SlotFileName()
	slot := make([]byte, 0, s.Manifest.PiecePartitionSize)
	size := s.Manifest.PiecePartitionSize
	err := s.fetch(ctx, file, span{0, size, size}, func(p []byte) error {
		slot = append(slot, p...)
		return nil
	}, show)
	if err != nil {
		return nil, err
	}
	if sum := base.Hash(sum256(slot)); sum != s.SlotSHA256 {
		return nil, fmt.Errorf("%s of snapshot %s has sha256 %s, not %s: %w", file, s.ID, sum, s.SlotSHA256, fault.Corrupt)
	}
	sum, err := s.Manifest.ImageSHA256(bytes.NewReader(slot))
	if err != nil {
		return nil, err
	}
	if sum != s.SHA256 {
		return nil, fmt.Errorf("the image of snapshot %s has sha256 %s by the server's sidecar, and %s by its manifest and its piece: %w", s.ID, s.SHA256, sum, fault.Corrupt)
	}
	_, err = s.verify(ctx, file, bytes.NewReader(slot))
	return slot, err
}

// verify checks the signature beside a file, if the client has a Verifier.
func (s *Download) verify(ctx context.Context, file string, signed io.Reader) (by string, err error) {
	if s.client.Verifier == nil {
		return "", nil
	}
	signature, err := s.get(ctx, file+".asc", maxSmall)
	if err != nil {
		return "", fmt.Errorf("get the signature of %s: %w", file, err)
	}
	if by, err = s.client.Verifier.Verify(signed, signature); err != nil {
		return "", fmt.Errorf("check the signature of %s of snapshot %s: %w", file, s.ID, err)
	}
	return by, nil
}

// get returns a small file of the snapshot.
func (s *Download) get(ctx context.Context, file string, limit int64) ([]byte, error) {
	u := s.folder.JoinPath(file)
	resp, err := s.client.do(ctx, http.MethodGet, u, "")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return nil, fmt.Errorf("the server has no %s: it does not keep snapshot %s any more, or is older than this program: %w", u.Redacted(), s.ID, fault.NotFound)
	default:
		return nil, fmt.Errorf("get %s: %s: %w", u.Redacted(), resp.Status, fault.Unavailable)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("get %s: %w: %w", u.Redacted(), fault.Unavailable, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("get %s: more than %d bytes came: %w", u.Redacted(), limit, fault.Corrupt)
	}
	return data, nil
}

func (c *Client) do(ctx context.Context, method string, u *url.URL, ranges string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w: %w", u.Redacted(), fault.Invalid, err)
	}
	// A compressed answer would have other bytes.
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("User-Agent", "isofs-stick")
	if ranges != "" {
		req.Header.Set("Range", ranges)
	}
	client := c.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the server: %w: %w", fault.Unavailable, err)
	}
	return resp, nil
}

func (c *Client) pause(ctx context.Context, n int) error {
	if c.Pause != nil {
		return c.Pause(ctx, n)
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Second << (n - 1)):
		return nil
	}
}

// A span is the bytes from off to end of a file that has size bytes.
type span struct{ off, end, size int64 }

// fetch downloads a part of a file, and continues where a connection broke off.
// The addresses of a snapshot have the same bytes for ever, so parts fit.
//
// This is not the loop of package origin. A download has no deadline as long as
// bytes come, the sink (a stick) may fail by itself, and the server may redirect
// to any host.
func (s *Download) fetch(ctx context.Context, file string, of span, sink func([]byte) error, show Progress) error {
	u := s.folder.JoinPath(file)
	left, length := of, of.end-of.off
	for failed := 0; ; {
		n, err := s.part(ctx, u, left, func(p []byte) error {
			if err := sink(p); err != nil {
				return &sinkError{err}
			}
			left.off += int64(len(p))
			show.report(left.off-of.off, length)
			return nil
		})
		if own, ok := errors.AsType[*sinkError](err); ok {
			return own.error
		}
		if err == nil && left.off == of.end {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("it ended after %d of %d bytes: %w", left.off-of.off, length, fault.Unavailable)
		}
		if failed++; n > 0 {
			failed = 1
		}
		if failed > attempts || ctx.Err() != nil || fault.Kind(err) != fault.Unavailable {
			return fmt.Errorf("download %s: %w", u.Redacted(), err)
		}
		if err := s.client.pause(ctx, failed); err != nil {
			return fmt.Errorf("download %s: %w: %w", u.Redacted(), fault.Unavailable, err)
		}
	}
}

// A sinkError is an error of the sink, not of the download.
type sinkError struct{ error }

var errStalled = fmt.Errorf("nothing came for %s", stall)

// answeredBy checks that an answer is of this span: by 206, or by 200 if the span
// is the whole file.
func (of span) answeredBy(resp *http.Response) error {
	switch {
	case resp.StatusCode == http.StatusPartialContent:
		if want := fmt.Sprintf("bytes %d-%d/%d", of.off, of.end-1, of.size); resp.Header.Get("Content-Range") != want {
			return fmt.Errorf("the server sends %q, not %q: %w", resp.Header.Get("Content-Range"), want, fault.Corrupt)
		}
	case resp.StatusCode == http.StatusOK && of == (span{0, of.size, of.size}) && resp.ContentLength == of.size:
	case resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= 500:
		return fmt.Errorf("the server says %s: %w", resp.Status, fault.Unavailable)
	case resp.StatusCode == http.StatusNotFound:
		return fmt.Errorf("the server says %s: %w", resp.Status, fault.NotFound)
	default:
		return fmt.Errorf("the server says %s, with %d bytes: %w", resp.Status, resp.ContentLength, fault.Corrupt)
	}
	return nil
}

// part downloads from the beginning of a span on, until the connection ends.
func (s *Download) part(ctx context.Context, u *url.URL, of span, sink func([]byte) error) (n int64, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	patience := time.AfterFunc(stall, func() { cancel(errStalled) })
	defer patience.Stop()
	resp, err := s.client.do(ctx, http.MethodGet, u, fmt.Sprintf("bytes=%d-%d", of.off, of.end-1))
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if err := of.answeredBy(resp); err != nil {
		return 0, err
	}
	want := of.end - of.off
	buf := make([]byte, 256<<10)
	for {
		patience.Reset(stall)
		got, err := resp.Body.Read(buf)
		patience.Stop() // the stick may take its time
		if err != nil && errors.Is(context.Cause(ctx), errStalled) {
			err = errStalled
		}
		if n+int64(got) > want {
			return n, fmt.Errorf("more than %d bytes came: %w", want, fault.Corrupt)
		}
		if got > 0 {
			if err := sink(buf[:got]); err != nil {
				return n, err
			}
			n += int64(got)
		}
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, fmt.Errorf("%w: %w", fault.Unavailable, err)
		}
	}
}
