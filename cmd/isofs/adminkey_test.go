package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"aesthetic.computer/isofs/fault"
)

const goodKey = "0123456789abcdef"

func TestKeyFile(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
		want string // what the error says; "" for none
	}{
		"a key":            {goodKey + "\n", 0o600, ""},
		"read-only":        {goodKey, 0o400, ""},
		"from Windows":     {goodKey + "\r\n", 0o600, ""},
		"others read it":   {goodKey + "\n", 0o644, "chmod 600"},
		"the group does":   {goodKey + "\n", 0o640, "chmod 600"},
		"others write it":  {goodKey + "\n", 0o602, "chmod 600"},
		"short":            {goodKey[1:] + "\n", 0o600, "needs 16"},
		"empty":            {"", 0o600, "needs 16"},
		"two lines":        {goodKey + "\n" + goodKey + "\n", 0o600, "one line"},
		"not ASCII":        {"ключ ключ ключ ключ", 0o600, "one line"},
		"spaces before it": {"  " + goodKey, 0o600, "one line"},
		"very long":        {strings.Repeat("x", longestKey+1), 0o600, "more than"},
	} {
		path := filepath.Join(t.TempDir(), "key")
		if err := errors.Join(os.WriteFile(path, []byte(c.text), 0o600), os.Chmod(path, c.mode)); err != nil {
			t.Fatal(err)
		}
		key, err := readKeyFile(path)
		if c.want == "" && (err != nil || key != goodKey) || c.want != "" && (!errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %q, %v", name, key, err)
		}
		if err != nil && strings.Contains(err.Error(), goodKey[1:]) {
			t.Errorf("%s: the error has the key: %v", name, err)
		}
	}
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, filepath.Join(dir, "pipe"), filepath.Join(dir, "none")} {
		if _, err := readKeyFile(path); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestKeyFromTheEnvironment(t *testing.T) {
	t.Setenv("ISOFS_ADMIN_KEY", "")
	t.Setenv("OS_BUILD_ADMIN_KEY", "")
	if key, err := keyFromEnvironment(); key != "" || err != nil {
		t.Errorf("none: %q, %v", key, err)
	}
	t.Setenv("OS_BUILD_ADMIN_KEY", goodKey)
	if key, err := keyFromEnvironment(); key != goodKey || err != nil {
		t.Errorf("the oven's: %q, %v", key, err)
	}
	t.Setenv("ISOFS_ADMIN_KEY", "short")
	if _, err := keyFromEnvironment(); !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "ISOFS_ADMIN_KEY") {
		t.Errorf("a short one of our own: %v", err)
	}
	if err := (&adminFlags{}).validate(); !errors.Is(err, fault.Invalid) {
		t.Errorf("flags with it: %v", err)
	}
}

func TestLimitFlags(t *testing.T) {
	good := func() limitFlags {
		return limitFlags{fetches: 1, snapshots: 1, newNames: quotaFlags{20, 0.333}, allNew: quotaFlags{200, 20}}
	}
	l := good()
	if err := l.validate(); err != nil {
		t.Error(err)
	}
	if q := l.catalog().AllNewNames; q.Burst != 200 || q.Every.Milliseconds() != 50 {
		t.Errorf("20 a second is %+v", q)
	}
	// A command without these flags has the catalog's own.
	if q := (&limitFlags{}).catalog(); q.NewNames.Every != 0 || q.NewNames.Burst != 0 {
		t.Errorf("not asked for: %+v", q)
	}
	for name, spoil := range map[string]func(*limitFlags){
		"limit-fetches":         func(l *limitFlags) { l.fetches = 0 },
		"limit-snapshots":       func(l *limitFlags) { l.snapshots = -1 },
		"limit-new-burst":       func(l *limitFlags) { l.newNames.burst = 0 },
		"limit-new-total-burst": func(l *limitFlags) { l.allNew.burst = 2_000_000 },
		"limit-new ":            func(l *limitFlags) { l.newNames.rate = 0 },
		"limit-new-total ":      func(l *limitFlags) { l.allNew.rate = -1 },
	} {
		l := good()
		spoil(&l)
		if err := l.validate(); err == nil || !strings.Contains(err.Error(), "--"+name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
