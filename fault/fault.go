// Package fault names the four kinds of failure that cross a package border.
//
// An error that leaves a package wraps exactly one of them, so that vfs can
// turn it into an errno and api into an HTTP status, each in one table. One that
// is of a value of a Config says of which (SettingError).
// The package leaves out everything else: the text of an error, and any datum
// it carries, belong to the package that made it.
package fault

import "errors"

// The kinds. Test for them with errors.Is.
var (
	// NotFound: the thing asked for does not exist, and asking again will
	// not help until somebody makes it.
	NotFound = errors.New("not found")
	// Corrupt: bytes were had, but they are not the ones that were promised.
	Corrupt = errors.New("corrupt")
	// Unavailable: the thing may exist, but cannot be had now. Retrying later
	// may help.
	Unavailable = errors.New("unavailable")
	// Invalid: the request itself is wrong, and will be wrong next time.
	Invalid = errors.New("invalid")
)

// kinds is in the order in which Kind tests: the strongest claim first, so
// that an error joined of several is reported as the worst of them.
func kinds() [4]error { return [4]error{Corrupt, Invalid, NotFound, Unavailable} }

// Kind returns which of the four kinds err is, or nil if it is none of them
// (a bug, or an error of the operating system that nobody classified).
func Kind(err error) error {
	for _, k := range kinds() {
		if errors.Is(err, k) {
			return k
		}
	}
	return nil
}
