package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/vfs"
)

// A child that hangs is found within 20 s: that is at most a pause and two failed
// looks in a row.
const (
	// watchEvery is the pause between two looks at the child.
	watchEvery = 4 * time.Second
	// watchPatience is how long a look may take.
	watchPatience = 6 * time.Second
)

// watch looks at a child until it ends, or ctx does. The channel receives an error
// if the child hangs.
func (p *parent) watch(ctx context.Context, c *Child) (hung <-chan error) {
	found := make(chan error, 1)
	go func() {
		for failed := false; ; {
			pause := watchEvery
			if failed {
				pause = 0
			}
			select {
			case <-ctx.Done():
				return
			case <-c.Done:
				return
			case <-time.After(pause):
			}
			err := p.answers(ctx)
			if ctx.Err() != nil {
				return
			}
			if err != nil && failed {
				found <- err
				return
			}
			failed = err != nil
		}
	}()
	return found
}

// answers checks that the mount, the directories that the child works with, and
// its API answer in time.
func (p *parent) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, watchPatience)
	defer cancel()
	files := make(chan error, 1)
	go func() { files <- vfs.Answer(ctx, p.User.credential(), append(p.userDirs(), p.dir())) }()
	err := askHealth(ctx, p.socket())
	return errors.Join(<-files, err)
}

// awaitDirectories returns when the file systems of the user's directories answer,
// or ctx ends: a child would only hang there too.
func (p *parent) awaitDirectories(ctx context.Context) {
	for logged := false; ctx.Err() == nil; logged = true {
		once, cancel := context.WithTimeout(ctx, watchPatience)
		err := vfs.Answer(once, p.User.credential(), p.userDirs())
		cancel()
		if err == nil {
			return
		}
		if !logged {
			p.Log.Error("waiting for the file systems of --state and --cache before the serving process is started", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(restartPause):
		}
	}
}

// askHealth asks the API at a socket whether the images can be read. It reads only
// the first line of what the user's process answers.
func askHealth(ctx context.Context, socket string) error {
	status, err := firstLine(ctx, socket)
	if err != nil {
		return fmt.Errorf("ask the API: %w: %w", fault.Unavailable, err)
	}
	if !strings.Contains(status, " 200 ") {
		return fmt.Errorf("ask the API: %w: it says %.100q", fault.Unavailable, status)
	}
	return nil
}

func firstLine(ctx context.Context, socket string) (string, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", socket)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if end, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(end); err != nil {
			return "", err
		}
	}
	if _, err := conn.Write([]byte("GET /healthz HTTP/1.0\r\nHost: isofs\r\n\r\n")); err != nil {
		return "", err
	}
	line, _, err := bufio.NewReaderSize(conn, 512).ReadLine()
	return string(line), err
}
