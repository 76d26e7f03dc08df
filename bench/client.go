package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// get downloads the first n bytes of a URL and discards them in the kernel
// (MSG_TRUNC), so that the client costs little. It returns the time to the
// first byte of the body.
func get(ctx context.Context, address string, n int64) (time.Duration, error) {
	u, err := url.Parse(address)
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := conn.SetDeadline(begin.Add(5 * time.Minute)); err != nil {
		return 0, err
	}
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nRange: bytes=0-%d\r\n\r\n", u.RequestURI(), n-1)
	in := bufio.NewReaderSize(conn, 4096)
	resp, err := http.ReadResponse(in, nil) //nolint:bodyclose // the connection is closed whole
	if err != nil {
		return 0, fmt.Errorf("get %s: %w", address, err)
	}
	if resp.StatusCode != http.StatusPartialContent || resp.ContentLength != n {
		return 0, fmt.Errorf("get %s: %s with %d bytes, 206 with %d are expected", address, resp.Status, resp.ContentLength, n)
	}
	if _, err := in.Peek(1); err != nil {
		return 0, fmt.Errorf("get %s: %w", address, err)
	}
	first := time.Since(begin)
	return first, discard(conn.(*net.TCPConn), n-int64(in.Buffered()))
}

// discard drops exactly n incoming bytes.
func discard(conn *net.TCPConn, n int64) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	buf := make([]byte, 4*mib)
	for n > 0 {
		var got int
		var failed error
		err := raw.Read(func(fd uintptr) bool {
			got, _, failed = unix.Recvfrom(int(fd), buf[:min(n, int64(len(buf)))], unix.MSG_TRUNC)
			return !errors.Is(failed, unix.EAGAIN)
		})
		if err = errors.Join(err, failed); err != nil {
			return err
		}
		if got <= 0 {
			return io.ErrUnexpectedEOF
		}
		n -= int64(got)
	}
	return nil
}

// together downloads several URLs at once and returns the longest time to a first byte.
func together(ctx context.Context, urls []string, n int64) (time.Duration, error) {
	var group sync.WaitGroup
	first, failed := make([]time.Duration, len(urls)), make([]error, len(urls))
	for i := range urls {
		group.Go(func() { first[i], failed[i] = get(ctx, urls[i], n) })
	}
	group.Wait()
	longest := first[0]
	for _, f := range first {
		longest = max(longest, f)
	}
	return longest, errors.Join(failed...)
}

// digest is the SHA-256 of a URL's whole body.
func digest(ctx context.Context, address string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	sum := sha256.New()
	if _, err := io.CopyBuffer(sum, resp.Body, make([]byte, mib)); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x %d", sum.Sum(nil), resp.StatusCode), nil
}

// random makes requests for 4 KiB at random places over 16 connections.
func random(ctx context.Context, address string, size int64, requests int) error {
	transport := &http.Transport{MaxIdleConnsPerHost: 16}
	defer transport.CloseIdleConnections()
	var group sync.WaitGroup
	failed := make([]error, 16)
	for i := range failed {
		group.Go(func() {
			places := rand.New(rand.NewPCG(1, uint64(i)))
			for range requests / len(failed) {
				if failed[i] = one(ctx, transport, address, places.Int64N(size-4096)); failed[i] != nil {
					return
				}
			}
		})
	}
	group.Wait()
	return errors.Join(failed...)
}

func one(ctx context.Context, transport *http.Transport, address string, off int64) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", off, off+4095))
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != 4096 {
		return fmt.Errorf("4 KiB of %s at %d: %d bytes, %w", address, off, n, errors.Join(err, io.ErrUnexpectedEOF))
	}
	return nil
}
