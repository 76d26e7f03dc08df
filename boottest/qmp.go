package boottest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"time"
)

// A monitor speaks QMP with QEMU: a line of JSON each way. Events in between
// are skipped.
type monitor struct {
	conn net.Conn
	in   *bufio.Reader
}

// monitorPatience is the longest wait for an answer of QEMU, on a loaded
// machine.
const monitorPatience = 30 * time.Second

// dialMonitor connects to the socket and reads the greeting.
func dialMonitor(path string) (*monitor, error) {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return nil, err
	}
	m := &monitor{conn, bufio.NewReader(conn)}
	if err := m.execute("qmp_capabilities", nil); err != nil {
		conn.Close()
		return nil, err
	}
	return m, nil
}

// execute runs a command and drops its result.
func (m *monitor) execute(command string, arguments map[string]any) error {
	request, err := json.Marshal(map[string]any{"execute": command, "arguments": arguments})
	if arguments == nil {
		request, err = json.Marshal(map[string]any{"execute": command})
	}
	if err != nil {
		return err
	}
	if err := m.conn.SetDeadline(time.Now().Add(monitorPatience)); err != nil {
		return err
	}
	if _, err := m.conn.Write(append(request, '\n')); err != nil {
		return fmt.Errorf("ask QEMU for %s: %w", command, err)
	}
	for {
		line, err := m.in.ReadBytes('\n')
		if err != nil {
			return fmt.Errorf("wait for QEMU's answer to %s: %w", command, err)
		}
		var answer struct {
			Return json.RawMessage
			Error  *struct{ Desc string }
		}
		if err := json.Unmarshal(line, &answer); err != nil {
			return fmt.Errorf("read QEMU's answer to %s: %w", command, err)
		}
		switch {
		case answer.Error != nil:
			return fmt.Errorf("QEMU refuses %s: %s", command, answer.Error.Desc)
		case answer.Return != nil:
			return nil
		}
	}
}
