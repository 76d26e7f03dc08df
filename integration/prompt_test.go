package integration

import (
	"os"
	"os/exec"
	"testing"
)

// TestPromptPiece: the piece that is aesthetic.computer's os command speaks with
// the real server, before which is a stand-in for the redirect.
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
