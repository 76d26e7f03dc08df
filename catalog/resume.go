package catalog

import (
	"context"
	"fmt"
	"time"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/piece"
)

// A Client is who downloads, as well as HTTP can tell.
type Client struct {
	Address string // of the TCP peer, without its port
	Agent   string // the User-Agent, which tells apart those behind one address
}

// A StaleError says that a download cannot be resumed: what the client began
// with is not known or no longer kept, and the bytes that it asks for may
// belong to another image than those that it has. It wraps fault.NotFound.
type StaleError struct {
	Piece piece.Name
}

func (e *StaleError) Error() string {
	return fmt.Sprintf("the image of %s that this download began with is no longer kept, so the rest of it cannot be had; "+
		"delete the partial file and download again", e.Piece)
}

// Unwrap gives the kind.
func (e *StaleError) Unwrap() error { return fault.NotFound }

// Begin returns the snapshot for a download that starts at the beginning, and
// remembers that this client began with it.
func (c *Catalog) Begin(ctx context.Context, who Client, name piece.Name) (*Snapshot, error) {
	s, err := c.Current(ctx, name)
	if err != nil {
		return nil, err
	}
	c.remember(who, s)
	return s, nil
}

// Continue returns the snapshot for a request that may begin a download or may
// be one of many in it, such as a short range at the start of the image: the
// one that this client is reading, if it is kept, else it is as Begin.
func (c *Catalog) Continue(ctx context.Context, who Client, name piece.Name) (*Snapshot, error) {
	if ids, exact := c.clients.beginnings(who, name); exact {
		if s, err := c.ByID(ids[0]); err == nil {
			s.touch()
			return s, nil
		}
	}
	return c.Begin(ctx, who, name)
}

// Peek returns the piece's current snapshot for a request that reads no bytes
// of it (HEAD). A client that is not known to read another begins with it.
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

// At returns the retained snapshot of a piece that has the given time, which
// is what a validator of HTTP tells. fault.NotFound if there is none.
func (c *Catalog) At(name piece.Name, t time.Time) (*Snapshot, error) {
	if s := c.shown.at(name, t); s != nil {
		s.touch()
		return s, nil
	}
	return nil, fmt.Errorf("%s has no snapshot of %s: %w", name, t.UTC().Format(time.RFC3339), fault.NotFound)
}

func (c *Catalog) remember(who Client, s *Snapshot) {
	if err := c.clients.remember(who, s.piece, s.ID()); err != nil {
		// A resume after a restart may then be refused, but is never answered
		// with other bytes.
		c.cfg.Log.Warn("client not remembered on disk", "err", err)
	}
}

// Resume returns the snapshot to answer a client from that asks for bytes from
// offset start > 0 on and sends no validator: the one that it began with.
//
// A client that is not remembered may have begun with any snapshot. All of one
// base are equal before the slot, so a start there is answered from the
// piece's current one, provided that this catalog never had another base; a
// start inside the slot is a *StaleError.
//
// A client that began with a snapshot that is lost is a *StaleError wherever it
// starts: a download in several connections may have parts of that slot already.
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
	// From here on it is a client of this snapshot: a download in several
	// connections asks for the slot in a request of its own.
	c.remember(who, s)
	return s, nil
}
