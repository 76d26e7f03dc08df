package settings

import (
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"aesthetic.computer/isofs/fault"
)

// ErrUsage marks what the user typed wrong.
var ErrUsage = errors.New("wrong usage")

// A usageError is what the user typed wrong.
type usageError struct {
	err  error
	hint string // where to read on, if the error does not say what to do
}

func (e *usageError) Error() string { return e.err.Error() }

// Hint says where to read on; "" if the error says what to do.
func (e *usageError) Hint() string    { return e.hint }
func (e *usageError) Unwrap() []error { return []error{e.err, ErrUsage} }

// Usage joins what the user typed wrong; nil if nothing is.
func Usage(wrong ...error) error {
	if err := errors.Join(wrong...); err != nil {
		return &usageError{err: err}
	}
	return nil
}

// A settingError says what is wrong with a setting.
type settingError struct {
	flag    string // its name
	given   string // what the user gave it by, if that is not the flag: ISOFS_BASE, or /etc/isofs.toml: base
	foreign bool   // the command has no such flag: it took the value from elsewhere
	err     error  // follows the name in the sentence
	apart   bool   // with a colon between
}

func (e *settingError) Error() string {
	name := e.given
	if name == "" {
		name = "--" + e.flag
	}
	switch {
	case e.apart && e.foreign:
		return e.err.Error()
	case e.apart:
		name += ":"
	}
	return name + " " + e.err.Error()
}

func (e *settingError) Unwrap() error { return e.err }

// Wrong returns an error that says what is wrong with a flag, in a sentence that
// begins with its name.
func Wrong(flag, format string, a ...any) error {
	return &settingError{flag: flag, err: fmt.Errorf(format, a...)}
}

// Blame returns err as an error of that flag. It is nil if err is.
func Blame(flag string, err error) error {
	if err == nil {
		return nil
	}
	return &settingError{flag: flag, err: err, apart: true}
}

// BlameConfig turns an error that a package found in the values of its Config into
// one that names the flags. flagOf has the flag of each value, by the package's
// name for it. It returns any other error as it is.
func BlameConfig(err error, flagOf map[string]string) error {
	all := fault.AsSettings(err)
	if all == nil {
		return err
	}
	var named []error
	for _, e := range all {
		named = append(named, &settingError{flag: flagOf[e.Setting], err: e.Err, apart: !e.Predicate})
	}
	if len(named) == 1 {
		return named[0]
	}
	return errors.Join(named...)
}

// givenKey is where a flag notes what gave it its value.
const givenKey = "isofs-given-by"

// noteGiven notes what gave a flag its value; "" is the flag itself.
func noteGiven(f *pflag.Flag, by string) {
	if f.Annotations == nil {
		f.Annotations = map[string][]string{}
	}
	f.Annotations[givenKey] = []string{by}
}

func givenBy(f *pflag.Flag) string {
	if by := f.Annotations[givenKey]; len(by) > 0 {
		return by[0]
	}
	return ""
}

// Name makes the errors in err name settings as the user did: by the flag, the
// environment's variable, or the line of the file.
func Name(flags *pflag.FlagSet, err error) {
	if e, ok := any(err).(*settingError); ok && e.given == "" {
		if f := flags.Lookup(e.flag); f != nil {
			e.given = givenBy(f)
		} else {
			e.foreign = true
		}
	}
	switch e := any(err).(type) { // errors.As would stop at the first
	case interface{ Unwrap() error }:
		Name(flags, e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			Name(flags, inner)
		}
	}
}

// unfit says what is wrong with a value that a flag does not take. The values of
// this package repeat it themselves.
func unfit(f *pflag.Flag, value string, cause error) error {
	switch f.Value.(type) {
	case *Size, *Duration, *Choice:
		return &settingError{flag: f.Name, err: cause}
	}
	return Wrong(f.Name, "%q %w", value, cause)
}
