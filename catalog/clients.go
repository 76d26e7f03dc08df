package catalog

import (
	"bufio"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"aesthetic.computer/isofs/fault"
	"aesthetic.computer/isofs/piece"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// agentsKept is the number of user agents that have their own entry behind one
// address.
const agentsKept = 8

// maxLine is longer than any line of the file.
const maxLine = 4 << 10

// writePause is the pause after a failed write. Each attempt writes the whole
// file, and a full disk usually stays full for a while.
const writePause = 30 * time.Second

// saltLength is in bytes. Addresses are hashed with the salt.
const saltLength = 16

// A clientLog remembers the snapshot that each client began to download, by
// address, piece and user agent. It keeps a salted hash instead of the address.
// It is bounded. Changes are appended to a file. The file is rewritten when it
// is opened, and when it has grown to four times the entries in memory. The
// appended lines are not synced: they survive a kill of the process, but a
// power cut may take those of the last seconds.
type clientLog struct {
	path string
	salt []byte
	now  func() time.Time
	ids  map[string]bool // snapshots that clients had begun before the start; nil later

	mu      sync.Mutex // guards all below
	file    *os.File
	lines   int       // in the file
	torn    bool      // the file may end with half a line, or lack one
	retry   time.Time // when to rewrite a torn file
	entries int       // in known
	known   *simplelru.LRU[string, []beginning]
}

// beginning is one agent's snapshot.
type beginning struct {
	// Agent is a hash. It is "" for an agent beyond agentsKept. Its snapshot
	// stays in the list, so that it does not get another agent's.
	Agent string `json:"agent"`
	ID    string `json:"id"` // of the snapshot
}

// clientLine is a line of the file.
type clientLine struct {
	Key string `json:"key"`
	beginning
}

func openClientLog(dir string, limit int, now func() time.Time) (*clientLog, error) {
	salt, err := readSalt(filepath.Join(dir, saltFile))
	if err != nil {
		return nil, err
	}
	l := &clientLog{path: filepath.Join(dir, clientsFile), salt: salt, now: now}
	l.known, err = simplelru.NewLRU(limit, func(_ string, list []beginning) { l.entries -= len(list) })
	if err != nil {
		return nil, fmt.Errorf("remember %d clients: %w: %w", limit, fault.Invalid, err)
	}
	if err := l.load(); err != nil {
		return nil, err
	}
	l.ids = map[string]bool{}
	for _, list := range l.known.Values() {
		for _, b := range list {
			l.ids[b.ID] = true
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	err = l.rewrite()
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		// A full disk still serves what is in memory. The file stays as it is
		// until there is room.
		return l, nil
	}
	return l, err
}

// readSalt reads the salt, and makes it at the first start.
func readSalt(path string) ([]byte, error) {
	salt, err := os.ReadFile(path)
	if err == nil && len(salt) == saltLength {
		return salt, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the salt of the client log: %w: %w", fault.Unavailable, err)
	}
	salt = make([]byte, saltLength)
	if _, err := rand.Read(salt); err != nil {
		return nil, fmt.Errorf("make the salt of the client log: %w: %w", fault.Unavailable, err)
	}
	if err := writeFile(path, salt, 0o600); err != nil {
		return nil, fmt.Errorf("write the salt of the client log: %w: %w", fault.Unavailable, err)
	}
	return salt, nil
}

// load reads the file. It skips a line that a kill cut short, and garbage of
// any length.
func (l *clientLog) load() error {
	f, err := os.Open(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the client log: %w: %w", fault.Unavailable, err)
	}
	defer f.Close()
	for in := bufio.NewReaderSize(f, maxLine); ; {
		text, err := in.ReadSlice('\n')
		if err == io.EOF {
			return nil
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return fmt.Errorf("read the client log: %w: %w", fault.Unavailable, err)
		}
		var line clientLine
		if err == nil && json.Unmarshal(text, &line) == nil && line.Key != "" && line.ID != "" {
			l.set(line.Key, line.beginning)
		}
	}
}

// has reports whether a client had begun a snapshot before the start.
func (l *clientLog) has(id string) bool { return l.ids[id] }

// remember notes that a client begins a snapshot. If a write fails, a later
// call writes the entry, at least writePause afterwards. Until then the entry
// is in memory, and remember returns no error.
func (l *clientLog) remember(who Client, name piece.Name, id string) error {
	key, b := l.key(who.Address, name), beginning{l.agent(who.Agent), id}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.set(key, b) {
		return nil
	}
	err := l.write(clientLine{key, b})
	if l.torn {
		// The file's last line for this client may have an older snapshot.
		// After a restart that would mix two images. Without the file, isofs
		// refuses to resume instead.
		_ = os.Remove(l.path)
	}
	return err
}

// write appends a line. It rewrites the whole file instead, if that is torn or
// too long. It is not safe for concurrent access.
func (l *clientLog) write(line clientLine) error {
	if l.torn && l.now().Before(l.retry) {
		return nil
	}
	if l.torn || l.lines > 4*(l.entries+agentsKept) {
		return l.rewrite()
	}
	data, err := json.Marshal(line)
	if err != nil {
		return fmt.Errorf("append to the client log: %w: %w", fault.Invalid, err)
	}
	// One write per line: a kill leaves whole lines except the last.
	if _, err := l.file.Write(append(data, '\n')); err != nil {
		l.fail()
		return fmt.Errorf("append to the client log: %w: %w", fault.Unavailable, err)
	}
	l.lines++
	return nil
}

// beginnings returns the snapshots that a client may have begun. exact is true
// if its agent is in the log: then there is one. Otherwise they are those of
// all agents at its address, each once.
func (l *clientLog) beginnings(who Client, name piece.Name) (ids []string, exact bool) {
	agent := l.agent(who.Agent)
	l.mu.Lock()
	defer l.mu.Unlock()
	list, _ := l.known.Get(l.key(who.Address, name))
	for _, b := range list {
		if b.Agent == agent {
			return []string{b.ID}, true
		}
		if !slices.Contains(ids, b.ID) {
			ids = append(ids, b.ID)
		}
	}
	return ids, false
}

// set keeps the newest agentsKept agents by name. Of the agents before them it
// keeps as many snapshots: more than a piece has at a time.
//
// set is not safe for concurrent access. It reports whether the file lacks a
// change now.
func (l *clientLog) set(key string, b beginning) bool {
	list, _ := l.known.Get(key)
	if slices.Contains(list, b) {
		return l.torn
	}
	next := []beginning{b}
	var nameless []beginning
	for _, o := range list {
		switch {
		case o.Agent == b.Agent && o.Agent != "":
			// It began again.
		case o.Agent != "" && len(next) < agentsKept:
			next = append(next, o)
		default:
			nameless = append(nameless, beginning{ID: o.ID})
		}
	}
	for _, o := range nameless {
		if len(next) < 2*agentsKept && !slices.Contains(next, o) {
			next = append(next, o)
		}
	}
	l.entries += len(next) - len(list)
	l.known.Add(key, next)
	return true
}

// fail notes that the file lacks a change. It is not safe for concurrent
// access.
func (l *clientLog) fail() { l.torn, l.retry = true, l.now().Add(writePause) }

// rewrite writes the file from memory, oldest first. It is not safe for
// concurrent access.
func (l *clientLog) rewrite() (err error) {
	defer func() {
		if err != nil {
			l.fail()
		}
	}()
	var data []byte
	lines := 0
	for _, key := range l.known.Keys() {
		list, _ := l.known.Peek(key)
		for _, b := range slices.Backward(list) {
			line, err := json.Marshal(clientLine{key, b})
			if err != nil {
				return fmt.Errorf("write the client log: %w: %w", fault.Invalid, err)
			}
			data = append(append(data, line...), '\n')
			lines++
		}
	}
	if err := writeFile(l.path, data, 0o600); err != nil {
		return fmt.Errorf("write the client log: %w: %w", fault.Unavailable, err)
	}
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return fmt.Errorf("open the client log: %w: %w", fault.Unavailable, err)
	}
	if l.file != nil {
		l.file.Close()
	}
	l.file, l.lines, l.torn = f, lines, false
	return nil
}

func (l *clientLog) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil { // no earlier attempt could open it
		return nil
	}
	return l.file.Close()
}

func (l *clientLog) key(address string, name piece.Name) string {
	return l.hash("address " + address + " piece " + keyOf(name))
}

func (l *clientLog) agent(agent string) string { return l.hash("agent " + agent) }

func (l *clientLog) hash(s string) string {
	sum := sha256.Sum256(append(slices.Clone(l.salt), s...))
	return hex.EncodeToString(sum[:12])
}
