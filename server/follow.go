package server

import (
	"context"
	"fmt"

	"aesthetic.computer/isofs/fault"
)

// errNoChannel is the error of Services.follow without a channel.
var errNoChannel = fmt.Errorf("this server was started with --base and follows no channel: %w", fault.Invalid)

// follow reads the channel and makes new images on the base that it names.
func (s *Services) follow(ctx context.Context) error {
	f := s.stack.bases.Follower()
	if f == nil {
		return errNoChannel
	}
	s.following.Lock()
	defer s.following.Unlock()
	present := s.stack.serving.Load()
	now, err := f.Follow(ctx, present)
	if err != nil {
		return err
	}
	if now.Manifest.SHA256 == present.Manifest.SHA256 {
		return nil
	}
	if err := s.stack.Catalog.SetBase(now.Image()); err != nil {
		return err
	}
	s.stack.serving.Store(now)
	s.log.Info("the channel names another base", "channel", f.String(), "revision", now.Revision(), "version", now.Manifest.Version, "was", present.Manifest.Version)
	if s.prefill != nil {
		s.prefill(now.Base)
	}
	return nil
}

// startFollowing follows the channel, if there is one, until the server ends.
func (s *Services) startFollowing() {
	if f := s.stack.bases.Follower(); f != nil {
		go f.Run(s.ctx, s.follow)
	}
}
