package integration

import (
	"os"
	"os/exec"
	"testing"
)

// TestPromptPiece: the os command of aesthetic.computer works with the real server, behind a
// stand-in for the site's redirect.
func TestPromptPiece(t *testing.T) {
	t.Parallel()
	need(t, "node")
	s := serve(t)
	cmd := exec.Command("node", "--test", "../prompt/server.test.mjs")
	cmd.Env = append(os.Environ(), "ISOFS_URL="+s.url(""))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("node: %v\n%s", err, out)
	}
}
