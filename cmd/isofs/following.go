package main

import (
	"context"
	"fmt"

	"aesthetic.computer/isofs/fault"
)

// errNoChannel is the answer of a server that follows none.
var errNoChannel = fmt.Errorf("this server was started with --base and follows no channel: %w", fault.Invalid)

// follow looks at the channel and makes new images on the base that it names.
func (s *stack) follow(ctx context.Context) error {
	f := s.follower
	if f == nil {
		return errNoChannel
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	present := s.serving.Load()
	now, err := f.look(ctx, present)
	if err != nil {
		return err
	}
	// Before anybody has an image of it: a restart must not go back behind that.
	if err := f.remember(now); err != nil {
		return err
	}
	if now.base.Manifest.SHA256 == present.base.Manifest.SHA256 {
		return nil
	}
	if err := s.catalog.SetBase(now.base); err != nil {
		return err
	}
	s.serving.Store(now)
	f.log.Info("the channel names another base", "channel", f.String(), "revision", now.by.Revision, "version", now.by.Version, "was", present.base.Manifest.Version)
	if s.newBase != nil {
		s.newBase(now.base)
	}
	return nil
}

// startFollowing follows the channel, if there is one, until ctx ends.
func startFollowing(ctx context.Context, s *stack) {
	if s.follower == nil {
		return
	}
	go s.follower.run(ctx, s.follow)
}
