package catalog

// A reason is why a snapshot is forgotten.
type reason int

const (
	outdated     reason = iota // superseded for too long, or by too many
	noRoomUnread               // beyond Limits.Bytes or Limits.Snapshots, without a download
	noRoom                     // beyond them, with a download
	damaged                    // its bundle is lost or damaged
	byOperator
	reasons // the number of reasons
)

// String is the word for it in logs and metrics.
func (r reason) String() string {
	return [reasons]string{"superseded", "no_room_unread", "no_room", "damaged", "operator"}[r]
}
