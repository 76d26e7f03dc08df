package fault

import (
	"errors"
	"fmt"
	"strings"
)

// A SettingError says what is wrong with a value of a package's Config, or with
// what is found there. A caller that took the value from its user can thus use
// the user's name for it.
type SettingError struct {
	// Setting names the value; each package has constants for its own.
	Setting string
	// Err is the cause. If Predicate is set its text is a predicate whose
	// subject is the setting ("is needed"). Otherwise it is a complete text.
	Err       error
	Predicate bool
}

// Error implements error.
func (e *SettingError) Error() string {
	if e.Predicate {
		return e.Setting + " " + e.Err.Error()
	}
	return e.Setting + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *SettingError) Unwrap() error { return e.Err }

// SettingErrors are all that is wrong with a Config. Those from Add and Addf
// wrap Invalid.
type SettingErrors []*SettingError

// Add notes an error whose text stands by itself.
func (all *SettingErrors) Add(setting string, err error) {
	*all = append(*all, &SettingError{Setting: setting, Err: invalidError{err}})
}

// Addf notes an error whose text is a predicate of the setting.
func (all *SettingErrors) Addf(setting, format string, a ...any) {
	*all = append(*all, &SettingError{Setting: setting, Err: invalidError{fmt.Errorf(format, a...)}, Predicate: true})
}

// Err returns the errors as one, and nil if there are none.
func (all SettingErrors) Err() error {
	if len(all) == 0 {
		return nil
	}
	return all
}

// Error implements error, with one error a line.
func (all SettingErrors) Error() string {
	var lines []string
	for _, e := range all {
		lines = append(lines, e.Error())
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the errors one by one.
func (all SettingErrors) Unwrap() []error {
	var errs []error
	for _, e := range all {
		errs = append(errs, e)
	}
	return errs
}

// An invalidError is Invalid without saying so in its text.
type invalidError struct{ error }

// Unwrap returns the error and its kind.
func (e invalidError) Unwrap() []error { return []error{e.error, Invalid} }

// AsSettings returns the settings that err is about; nil if it is about none.
func AsSettings(err error) SettingErrors {
	if all, ok := errors.AsType[SettingErrors](err); ok {
		return all
	}
	if e, ok := errors.AsType[*SettingError](err); ok {
		return SettingErrors{e}
	}
	return nil
}
