// Package fault names the four kinds of failure that cross a package border.
//
// An error that leaves a package wraps exactly one of them, so that vfs can turn
// it into an errno and api into an HTTP status, each in one table. An error
// about a value of a Config names that value (SettingError). The package that
// makes an error decides its text, and the data that it carries.
package fault

import "errors"

// The kinds. Test for them with errors.Is.
var (
	// NotFound: the requested thing does not exist, and asking again will not
	// help until it is made.
	NotFound = errors.New("not found")
	// Corrupt: bytes came, but they are not the promised ones.
	Corrupt = errors.New("corrupt")
	// Unavailable: the thing may exist, but not within reach now. Retrying later
	// may help.
	Unavailable = errors.New("unavailable")
	// Invalid: the request itself is wrong, and will be wrong next time.
	Invalid = errors.New("invalid")
)

// kinds returns the kinds in the order in which Kind tests: the strongest claim
// first. So an error joined of several is reported as the worst of them.
func kinds() [4]error { return [4]error{Corrupt, Invalid, NotFound, Unavailable} }

// Kind returns which of the four kinds err is, or nil if it has none: that is a
// bug, or an unclassified error of the operating system.
func Kind(err error) error {
	for _, k := range kinds() {
		if errors.Is(err, k) {
			return k
		}
	}
	return nil
}
