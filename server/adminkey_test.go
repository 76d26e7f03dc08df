package server

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
		key, err := ReadAdminKey(path)
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
		if _, err := ReadAdminKey(path); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
