package settings

import (
	"fmt"
	"slices"

	"github.com/spf13/pflag"

	"aesthetic.computer/isofs/fault"
)

// Values are those of all flags of a command, by name. As JSON a process hands them to
// another one, which runs as another user and would find other defaults.
type Values map[string]Value

// A Value is the value of a flag, or the values of a list, and what gave it, for
// errors to name.
type Value struct {
	Values []string `json:"values"`
	By     string   `json:"by,omitempty"`
}

// Equal reports whether two values are the same, whatever gave them.
func (v Value) Equal(other Value) bool { return slices.Equal(v.Values, other.Values) }

// ValuesOf returns what the flags have now.
func ValuesOf(flags *pflag.FlagSet) Values {
	all := Values{}
	flags.VisitAll(func(f *pflag.Flag) { all[f.Name] = ValueOf(f) })
	return all
}

// ValueOf returns what a flag has now.
func ValueOf(f *pflag.Flag) Value {
	v := Value{Values: []string{f.Value.String()}, By: givenBy(f)}
	if list, ok := f.Value.(pflag.SliceValue); ok {
		v.Values = list.GetSlice()
	}
	return v
}

// Apply gives flags these values.
func (all Values) Apply(flags *pflag.FlagSet) error {
	var failed error
	flags.VisitAll(func(f *pflag.Flag) {
		if v, ok := all[f.Name]; ok && failed == nil {
			failed = v.Set(f)
		}
	})
	return failed
}

// Set replaces the value of a flag, also of a list.
func (v Value) Set(f *pflag.Flag) error {
	noteGiven(f, v.By)
	var err error
	if list, ok := f.Value.(pflag.SliceValue); ok {
		err = list.Replace(v.Values)
	} else if len(v.Values) == 1 {
		err = f.Value.Set(v.Values[0])
	}
	if err != nil {
		return fmt.Errorf("set %s to %q: %w: %w", f.Name, v.Values, fault.Invalid, err)
	}
	return nil
}
