package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"

	"aesthetic.computer/isofs/fault"
)

// A Client sends requests to a server of this machine, by the socket of its API.
type Client struct{ Socket string }

// maxAnswer bounds an answer, in bytes: some 10,000 snapshots.
const maxAnswer = 64 << 20

// do sends a request, whose address begins with http://isofs, and returns the status and the
// whole answer. Errors are fault.Unavailable.
func (c Client) do(req *http.Request) (status int, answer []byte, err error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: c.dial}}
	resp, err := client.Do(req)
	if errors.Is(err, os.ErrPermission) {
		return 0, nil, fmt.Errorf("ask the server at %s: %w: permission denied: only root, its --user and that user's group may", c.Socket, fault.Unavailable)
	}
	if err != nil {
		return 0, nil, fmt.Errorf("ask the server at %s: %w: %w: is it running, with this --run?", c.Socket, fault.Unavailable, err)
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return 0, nil, fmt.Errorf("read the server's answer: %w: %w", fault.Unavailable, err)
	}
	return resp.StatusCode, answer, nil
}

// Get decodes the JSON that an address answers.
func (c Client) Get(ctx context.Context, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://isofs"+path, nil)
	if err != nil {
		return err
	}
	_, answer, err := c.do(req)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("understand the server's answer to %s: %w: %w", path, fault.Corrupt, err)
	}
	return nil
}

// Admin sends an action of docs/admin.md, with the operator's key, and returns the answer. A
// refusal is a plain error.
func (c Client) Admin(ctx context.Context, key, action string, values url.Values) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://isofs/admin/"+action, strings.NewReader(values.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Authorization", "Bearer "+key)
	status, answer, err := c.do(req)
	if err != nil {
		return nil, err
	}
	if status == http.StatusOK {
		return answer, nil
	}
	var body struct{ Error string }
	_ = json.Unmarshal(answer, &body) // else the status says all
	return nil, fmt.Errorf("%s: the server answers %d %s: %s", action, status, http.StatusText(status), body.Error)
}

// Instance returns the name of the running server; "" if none answers.
func (c Client) Instance(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, ProbeTime)
	defer cancel()
	name, _ := InstanceAt(ctx, "http://isofs", c.dial)
	return name
}

func (c Client) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	var dialer net.Dialer
	return dialer.DialContext(ctx, "unix", c.Socket)
}
