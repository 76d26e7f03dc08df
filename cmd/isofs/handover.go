package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"aesthetic.computer/isofs/fault"
)

// settings are those of all flags of a command, by name.
type settings map[string]setting

// A setting is the value of a flag, which if it is a list has several, and what
// it came by, for errors to name.
type setting struct {
	Values []string `json:"values"`
	By     string   `json:"by,omitempty"`
}

func (s setting) equals(other setting) bool { return slices.Equal(s.Values, other.Values) }

// settingsOf returns what was resolved of arguments, environment, file and
// defaults.
func settingsOf(flags *pflag.FlagSet) settings {
	all := settings{}
	flags.VisitAll(func(f *pflag.Flag) {
		all[f.Name] = settingOf(f)
	})
	return all
}

func settingOf(f *pflag.Flag) setting {
	s := setting{Values: []string{f.Value.String()}, By: givenBy(f)}
	if list, ok := f.Value.(pflag.SliceValue); ok {
		s.Values = list.GetSlice()
	}
	return s
}

// apply gives flags these values.
func (s settings) apply(flags *pflag.FlagSet) error {
	var failed error
	flags.VisitAll(func(f *pflag.Flag) {
		if to, ok := s[f.Name]; ok && failed == nil {
			failed = setFlag(f, to)
		}
	})
	return failed
}

// setFlag replaces the value of a flag, also that of a list.
func setFlag(f *pflag.Flag, to setting) error {
	noteGiven(f, to.By)
	values := to.Values
	var err error
	if list, ok := f.Value.(pflag.SliceValue); ok {
		err = list.Replace(values)
	} else if len(values) == 1 {
		err = f.Value.Set(values[0])
	}
	if err != nil {
		return fmt.Errorf("set %s to %q: %w: %w", f.Name, values, fault.Invalid, err)
	}
	return nil
}

// A handover tells a child the settings that its parent resolved: as another
// user the child would find other defaults. They come as JSON on the child's standard
// input, first those to begin with, then those of each reload.
type handover struct{ to io.WriteCloser }

// handoverPatience is how long a child may take to accept settings; if it is
// stuck, the parent must not be.
const handoverPatience = 5 * time.Second

// send hands settings down.
func (h *handover) send(s settings) error {
	if pipe, ok := h.to.(*os.File); ok {
		_ = pipe.SetWriteDeadline(time.Now().Add(handoverPatience)) // without, it waits
	}
	if err := json.NewEncoder(h.to).Encode(s); err != nil {
		return fmt.Errorf("hand the settings to the serving process: %w: %w", fault.Unavailable, err)
	}
	return nil
}

// fromParent reads what a child is handed. It is one for the whole process,
// since a decoder reads ahead.
var fromParent = sync.OnceValue(func() *json.Decoder { return json.NewDecoder(os.Stdin) })

// errHandover says that no settings come from a parent any more.
var errHandover = errors.New("read the settings from the process that started this one")

// handedDown returns the next settings.
func handedDown() (settings, error) {
	var s settings
	if err := fromParent().Decode(&s); err != nil {
		return nil, fmt.Errorf("%w: %w", errHandover, err)
	}
	return s, nil
}
