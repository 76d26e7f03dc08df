package catalog

import (
	"context"
	"fmt"
	"time"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/piece"
)

// A Client identifies a downloading program, as far as HTTP can.
type Client struct {
	Address string // of the TCP peer, without its port
	Agent   string // the User-Agent, which separates programs behind one address
}

// A StaleError says that a download cannot be resumed. The snapshot that the
// client began is not known or no longer kept, and the requested bytes may
// belong to another image. It wraps fault.NotFound.
type StaleError struct {
	Piece piece.Name
}

func (e *StaleError) Error() string {
	return fmt.Sprintf("the image of %s that this download began with is no longer kept, so the rest of it cannot be downloaded; "+
		"delete the partial file and download again", e.Piece)
}

// Unwrap returns the kind.
func (e *StaleError) Unwrap() error { return fault.NotFound }

// Begin returns the snapshot for a download from offset 0, and remembers that
// this client began it.
func (c *Catalog) Begin(ctx context.Context, who Client, name piece.Name) (*Snapshot, error) {
	s, err := c.Current(ctx, name)
	if err != nil {
		return nil, err
	}
	c.remember(who, s)
	return s, nil
}

// Continue returns the snapshot for a request that may begin a download or
// continue one, such as a short range at the start of the image. It is the
// snapshot that this client reads, if that is kept, and otherwise that of
// Begin.
func (c *Catalog) Continue(ctx context.Context, who Client, name piece.Name) (*Snapshot, error) {
	if ids, exact := c.clients.beginnings(who, name); exact {
		if s, err := c.ByID(ids[0]); err == nil {
			s.touch()
			return s, nil
		}
	}
	return c.Begin(ctx, who, name)
}

// Peek returns the piece's present snapshot for a request that reads no bytes
// of it (HEAD). If the client is not known to read another, it begins this one.
func (c *Catalog) Peek(ctx context.Context, who Client, name piece.Name) (*Snapshot, error) {
	s, err := c.Current(ctx, name)
	if err != nil {
		return nil, err
	}
	if _, exact := c.clients.beginnings(who, name); !exact {
		c.remember(who, s)
	}
	return s, nil
}

// At returns the retained snapshot of a piece with the given time, which an
// HTTP validator contains; otherwise fault.NotFound.
func (c *Catalog) At(name piece.Name, t time.Time) (*Snapshot, error) {
	if s := c.shown.at(name, t); s != nil {
		s.touch()
		return s, nil
	}
	return nil, fmt.Errorf("%s has no snapshot of %s: %w", name, t.UTC().Format(time.RFC3339), fault.NotFound)
}

func (c *Catalog) remember(who Client, s *Snapshot) {
	if err := c.clients.remember(who, s.piece, s.ID()); err != nil {
		// A resume after a restart may then fail, but never gets other bytes.
		c.cfg.Log.Warn("client not remembered on disk", "err", err)
	}
}

// Resume returns the snapshot for a client that requests the bytes from offset
// start > 0 and sends no validator: the one that it began.
//
// A client that is not remembered may have begun any snapshot. All of one base
// are equal before the slot. If this catalog never had another base, a start
// there gets the piece's present snapshot. A start inside the slot is a
// *StaleError.
//
// A client whose snapshot is lost gets a *StaleError at any start: with several
// connections it may already have parts of that slot.
func (c *Catalog) Resume(ctx context.Context, who Client, name piece.Name, start int64) (*Snapshot, error) {
	ids, exact := c.clients.beginnings(who, name)
	var kept []*Snapshot
	lost := false
	for _, id := range ids {
		s, err := c.ByID(id)
		if err != nil {
			lost = true
			continue
		}
		kept = append(kept, s)
	}
	if len(kept) == 1 && (exact || !lost) {
		kept[0].touch()
		return kept[0], nil
	}
	s, err := c.Current(ctx, name)
	if err != nil {
		return nil, err
	}
	if start >= s.Base().PiecePartitionOffset || lost || c.bases.several() {
		return nil, &StaleError{Piece: name}
	}
	// From here on the client has this snapshot: a download in several
	// connections requests the slot separately.
	c.remember(who, s)
	return s, nil
}
