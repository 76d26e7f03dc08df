package bake

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"aesthetic.computer/isofs/border"
	"aesthetic.computer/isofs/fault"
)

// SettingWork is the folder to work in, in errors (fault.SettingError).
const SettingWork = "folder to work in"

// workFolder returns the default folder to work in. It is in the user's cache
// directory, and never one that another user could have made: a bake uses the
// packages and finished steps in it.
func workFolder(named string) (string, error) {
	if named != "" {
		return named, nil
	}
	cache, err := os.UserCacheDir()
	if err == nil && !filepath.IsAbs(cache) {
		err = errors.New("HOME is not an absolute path")
	}
	if err != nil {
		return "", workError("is needed: there is no other folder to work in (%w)", err)
	}
	work := filepath.Join(cache, "isofs", "bake")
	if os.Geteuid() == 0 {
		err = border.Check(work)
	}
	if err == nil {
		err = owned(work)
	}
	if err != nil {
		return "", workError("is needed, as %s is not yours alone: %w", work, err)
	}
	return work, nil
}

func workError(format string, a ...any) error {
	var wrong fault.SettingErrors
	wrong.Addf(SettingWork, format, a...)
	return wrong
}

// owned returns what is wrong with an existing folder of another user.
func owned(dir string) error {
	fi, err := os.Stat(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if owner := int(fi.Sys().(*syscall.Stat_t).Uid); owner != os.Geteuid() {
		return fmt.Errorf("it belongs to user %d", owner)
	}
	return nil
}
