package main

import (
	"os"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"aesthetic.computer/isofs/integration/testkit"
)

// TestMain lets the scripts run this program as isofs.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"isofs": main})
}

// TestScripts runs testdata/script/*.txtar, which show what commands print. There
//
//	mkbase FILE
//
// writes the disk image of a small base, and  exits N COMMAND...  expects an exit status.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("XDG_STATE_HOME", "")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"mkbase": func(ts *testscript.TestScript, _ bool, args []string) {
				data, err := testkit.BaseImage(4)
				ts.Check(err)
				ts.Check(os.WriteFile(ts.MkAbs(args[0]), data, 0o644))
			},
			"exits":  expectStatus,
			"damage": damage,
		},
	})
}

// expectStatus runs a command that must end with a status.
func expectStatus(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	exit, ok := err.(interface{ ExitCode() int })
	if !ok || args[0] != string(rune('0'+exit.ExitCode())) {
		ts.Fatalf("%q ended with %v, and not with status %s", args[1:], err, args[0])
	}
}

// damage changes the byte of a file at an offset.
func damage(ts *testscript.TestScript, _ bool, args []string) {
	data := []byte(ts.ReadFile(args[0]))
	at, err := strconv.Atoi(args[1])
	ts.Check(err)
	data[at] ^= 1
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), data, 0o644))
}
