package integration

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A person types commands at one shell. Its folder, variables and jobs stay from one command to the
// next.
type person struct {
	t      *testing.T
	name   string
	log    string // the file with all output
	input  *os.File
	status *bufio.Reader
	cmd    *exec.Cmd
}

// sitDown reads commands from descriptor 3, each up to a zero byte. It writes their exit statuses
// to descriptor 4. Jobs have their own process groups (-m), as in a terminal.
const sitDown = `set -m
while IFS= read -r -d '' typed <&3; do
  eval "$typed" </dev/null 3<&- 4>&-
  printf '%d\n' "$?" >&4
done`

// commandPatience bounds one command, for example a bake or a build.
const commandPatience = 5 * time.Minute

// newPerson starts a shell in a folder.
func newPerson(t *testing.T, name, dir, log string, env []string, as *syscall.Credential) *person {
	t.Helper()
	p := &person{t: t, name: name, log: log}
	fromTest, input, err1 := os.Pipe()
	status, toTest, err2 := os.Pipe()
	output, err3 := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o666)
	if err1 != nil || err2 != nil || err3 != nil {
		t.Fatal(err1, err2, err3)
	}
	p.input, p.status = input, bufio.NewReader(status)
	p.cmd = exec.Command("bash", "--noprofile", "--norc", "-c", sitDown)
	p.cmd.Dir, p.cmd.Env = dir, env
	p.cmd.Stdout, p.cmd.Stderr = output, output
	p.cmd.ExtraFiles = []*os.File{fromTest, toTest}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as, Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, f := range []*os.File{fromTest, toTest, output} {
		f.Close()
	}
	return p
}

// types runs a command and returns its output and its exit status.
func (p *person) types(command string) (shown string, status int, err error) {
	before, err := os.Stat(p.log)
	if err != nil {
		return "", 0, err
	}
	if _, err := p.input.WriteString(command + "\x00"); err != nil {
		return "", 0, err
	}
	answer := make(chan string, 1)
	go func() {
		line, _ := p.status.ReadString('\n')
		answer <- line
	}()
	select {
	case line := <-answer:
		if status, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
			err = fmt.Errorf("the shell ended: %w", err)
		}
	case <-time.After(commandPatience):
		err = fmt.Errorf("it did not end within %s", commandPatience)
	}
	all, _ := os.ReadFile(p.log)
	return string(all[min(int(before.Size()), len(all)):]), status, err
}

// must is types for commands of the test itself.
func (p *person) must(command string) string {
	p.t.Helper()
	shown, status, err := p.types(command)
	if err != nil || status != 0 {
		p.t.Fatalf("%s: status %d, %v\n%s", command, status, err, shown)
	}
	return shown
}

// leave ends the shell.
func (p *person) leave() {
	p.input.Close()
	_ = p.cmd.Wait() // the status is that of its last command, which was checked
}
