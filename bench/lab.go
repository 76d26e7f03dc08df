package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A lab runs the systems; clean ends and removes all of it.
type lab struct {
	ctx   context.Context
	dir   string // of this run
	o     options
	isofs string // the binary
	base  string // folder of base.iso
	image string // the composed file
	size  int64
	undo  []func()
}

func (l *lab) path(name string) string { return filepath.Join(l.dir, name) }

func (l *lab) clean() {
	for _, f := range slices.Backward(l.undo) {
		f()
	}
	os.RemoveAll(l.dir)
}

// start runs a program until stop, or the end of the lab.
func (l *lab) start(name string, args ...string) (pid int, stop func(), err error) {
	cmd := exec.Command(name, args...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return 0, nil, fmt.Errorf("start %s: %w", name, err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // its status does not matter: stop ended it
		close(ended)
	}()
	stop = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(15 * time.Second):
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			<-ended
		}
	}
	l.undo = append(l.undo, stop)
	return cmd.Process.Pid, stop, nil
}

// unmountAtEnd leaves no mount behind, however the program ended.
func (l *lab) unmountAtEnd(dir string) {
	l.undo = append(l.undo, func() {
		for unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) == nil {
		}
	})
}

// command runs a program to its end.
func (l *lab) command(name string, args ...string) error {
	out, err := exec.CommandContext(l.ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// answers waits until the URL answers with 200.
func (l *lab) answers(url string) error {
	for range 600 {
		if resp, err := http.Head(url); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-l.ctx.Done():
			return l.ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return errors.New(url + " does not answer")
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
