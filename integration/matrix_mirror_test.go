package integration

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// aside is the name of the metric that says whether isofs has set a proxy aside.
func aside(p *faultProxy) string {
	return `isofs_origin_set_aside{origin="` + p.url() + `/base.iso"}`
}

// TestRow11MirrorGoesOn: when --base refuses connections, everything comes from the mirror. The log
// and the metrics report that once.
func TestRow11MirrorGoesOn(t *testing.T) {
	t.Parallel()
	address := freeAddress(t)
	q := newFaultProxy(t)
	p, s := faulty(t, "--mirror", q.url(), "--metrics-listen", address)
	s.fine(places[0], some)
	if n := len(q.requests()); n != 0 {
		t.Errorf("the mirror got %d requests while --base was in order", n)
	}
	p.down()
	for _, at := range places[1:] {
		s.fine(at, some)
	}
	if err := s.pread(places[2]+2<<20, some); err != nil {
		t.Error(err)
	}
	s.says("origin set aside")
	if v, _ := metrics(t, address); v[aside(q)] != "0" {
		t.Errorf("the figures are %s: %q", aside(q), v[aside(q)])
	}
	p.up()
	s.recovered(q)
}

// TestRow11MirrorOfTheManifest: mirrors that the manifest names work too, also in a start without
// --base.
func TestRow11MirrorOfTheManifest(t *testing.T) {
	t.Parallel()
	need(t, "nginx")
	p, q := newFaultProxy(t), newFaultProxy(t)
	files := p.static
	p.static = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/manifest.json" {
			files.ServeHTTP(w, r)
			return
		}
		recorded := httptest.NewRecorder()
		files.ServeHTTP(recorded, r)
		var manifest map[string]any
		decoder := json.NewDecoder(recorded.Body)
		decoder.UseNumber()
		if err := decoder.Decode(&manifest); err != nil {
			t.Error(err)
		}
		manifest["mirrors"] = []string{q.url() + "/base.iso", "s3://bucket-that-does-not-exist/base.iso"}
		_ = json.NewEncoder(w).Encode(manifest) // the client may have closed the connection
	})
	s := serve(t, "--base", p.url(), "--s3-region", "eu-central-1", "--s3-anonymous", "--s3-endpoint", "http://"+freeAddress(t))
	p.down()
	s.fine(places[1], some)
	s.stop()
	s.start()
	s.fine(places[2], some)
	s.all()
	if len(q.requests()) < 2 {
		t.Errorf("the mirror got the requests %v", q.requests())
	}
}

// TestRow11ManifestFromAMirror: the first start needs --base, or a mirror that is a folder.
func TestRow11ManifestFromAMirror(t *testing.T) {
	t.Parallel()
	need(t, "nginx")
	p, q := newFaultProxy(t), newFaultProxy(t)
	p.down()
	base := "http://somebody:" + "hushhush@" + strings.TrimPrefix(p.url(), "http://")
	s := serve(t, "--base", base, "--mirror", q.url()+"/base.iso", "--mirror", q.url())
	s.all()
	if strings.Contains(s.log.String(), "hushhush") {
		t.Error("the log has the password of --base")
	}
}

// TestRow07MirrorIsRight: if --base has a wrong block, the right one comes from the mirror. No read
// fails.
func TestRow07MirrorIsRight(t *testing.T) {
	t.Parallel()
	q := newFaultProxy(t)
	p, s := faulty(t, "--mirror", q.url())
	p.add(&fault{at: places[1], spoil: replaced(func(a *answer) []byte {
		body := slices.Clone(a.body)
		body[places[1]-a.at.first] ^= 1
		return body
	})})
	s.fine(places[1], some)
	s.says("gave wrong bytes")
	if q.touched(places[1]) == 0 {
		t.Error("the mirror got no request")
	}
	s.all() // from the liar too, with no second report of wrong bytes
	if n := strings.Count(s.log.String(), "gave wrong bytes"); n != 1 {
		t.Errorf("the liar was used again: %d reports", n)
	}
}

// TestRow21HeldAnswersAreOvertaken: the origin holds some answers until the download is over. The
// download does not wait for them, and costs the origin hardly more requests.
func TestRow21HeldAnswersAreOvertaken(t *testing.T) {
	t.Parallel()
	address := freeAddress(t)
	p, s := faulty(t, "--metrics-listen", address)
	held := make(chan struct{})
	var n, holds atomic.Int32
	p.add(&fault{all: true, spoil: func(a *answer) {
		if n.Add(1)%20 == 10 && holds.Add(1) <= 3 {
			a.hold = held
		}
	}})
	s.all()
	v, _ := metrics(t, address)
	number := func(name string) int {
		i, err := strconv.Atoi(v[name])
		if err != nil {
			t.Errorf("%s is %q", name, v[name])
		}
		return i
	}
	fetches, hedges, won := number("isofs_cache_fetches_total"), number("isofs_origin_hedges_total"), number("isofs_origin_hedges_won_total")
	if holds.Load() == 0 || won == 0 {
		t.Errorf("%d answers were held, %d second requests won", holds.Load(), won)
	}
	if hedges > 4+fetches/20 {
		t.Errorf("%d second requests for %d fetches", hedges, fetches)
	}
	close(held)
	s.recovered(p)
}
