package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"aesthetic.computer/isofs/integration/testkit"
)

// A unit is the settings of a service's files. Each setting has all of its values.
type unit map[string][]string

// readUnit reads a unit and its drop-ins. systemd itself checks the units in /etc, which the pages
// say to write.
func readUnit(name string) (unit, error) {
	u := unit{}
	path := "/etc/systemd/system/" + name + ".service"
	if _, err := os.Stat(path); err != nil {
		path = "/lib/systemd/system/" + name + ".service"
	}
	files, _ := filepath.Glob(path + ".d/*.conf") // the pattern is right
	for _, file := range append([]string{path}, files...) {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(text)) {
			key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
			if ok && !strings.HasPrefix(key, "#") {
				u[key] = append(u[key], value)
			}
		}
	}
	return u, nil
}

// last is the last value of a setting, which counts if only one can.
func (u unit) last(key string) string {
	if values := u[key]; len(values) > 0 {
		return values[len(values)-1]
	}
	return ""
}

// runs reports whether the process of PIDFile runs. nginx -t leaves an empty file.
func (u unit) runs() bool {
	text, _ := os.ReadFile(u.last("PIDFile"))
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	return err == nil && isRunning(pid)
}

// systemctl does the work of systemd, which does not run in the name space.
func (r *reader) systemctl(at, verb, name string) bool {
	if verb == "daemon-reload" {
		return true
	}
	u, err := readUnit(name)
	if err != nil {
		return r.fails(at, "systemctl %s %s: %v", verb, name, err)
	}
	switch verb {
	case "reload":
		return r.execs(at, u["ExecReload"])
	case "stop", "disable --now":
		if r.running != nil && r.running.line == name+".service" {
			return r.stop(at)
		}
		if !u.runs() {
			return true
		}
		return r.execs(at, u["ExecStop"])
	}
	if u.last("Type") == "forking" {
		if verb == "restart" && !r.systemctl(at, "stop", name) {
			return false
		}
		testkit.Eventually(r.t, name+" to end", func() bool { return !u.runs() })
		return r.execs(at, append(u["ExecStartPre"], u["ExecStart"]...))
	}
	if out, err := exec.Command("systemd-analyze", "verify", "--man=no", name+".service").CombinedOutput(); err != nil || len(out) > 0 {
		return r.fails(at, "systemd-analyze verify %s: %v\n%s", name, err, out)
	}
	if !r.stop(at) {
		return false
	}
	line := u.last("ExecStart")
	s := &running{at: at, line: name + ".service", who: r.root, addresses: addressesOf(line)}
	if u["LoadCredential"] != nil {
		s.line += " with sign-key"
	}
	return r.start(s, r.unitCommand(name, u)+line)
}

// execs runs lines of a unit to their end.
func (r *reader) execs(at string, lines []string) bool {
	for _, line := range lines {
		may, must := strings.CutPrefix(line, "-")
		shown, status, err := r.root.types(may)
		if err != nil || status != 0 && !must {
			return r.fails(at, "%s: exit status %d %s\n%s", line, status, orNothing(err), shown)
		}
	}
	return true
}

// unitCommand returns the prefix of a unit's line that gives it the user, the directories, the
// credentials and the environment that systemd would.
func (r *reader) unitCommand(name string, u unit) string {
	env := "env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8"
	for _, value := range u["Environment"] {
		env += " " + value
	}
	as := u.last("User")
	owner := "root"
	if as != "" {
		owner = as
		env += ` HOME="$(getent passwd ` + as + ` | cut -d: -f6)" USER=` + as
	}
	for key, place := range map[string]string{"StateDirectory": "/var/lib/", "LogsDirectory": "/var/log/", "RuntimeDirectory": "/run/", "CacheDirectory": "/var/cache/"} {
		for _, dir := range strings.Fields(u.last(key)) {
			r.root.must("install -d -m 755 -o " + owner + " " + place + dir)
		}
	}
	if files := u["LoadCredential"]; files != nil {
		dir := "/run/credentials/" + name + ".service"
		r.root.must("install -d -m 500 -o " + owner + " " + dir)
		for _, file := range files {
			id, path, _ := strings.Cut(file, ":")
			r.root.must("install -m 400 -o " + owner + " " + path + " " + dir + "/" + id)
		}
		env += " CREDENTIALS_DIRECTORY=" + dir
	}
	if as == "" {
		return "exec " + env + " "
	}
	caps := ""
	if ambient := u.last("AmbientCapabilities"); ambient != "" {
		word := "+" + strings.ToLower(strings.TrimPrefix(ambient, "CAP_"))
		caps = " --inh-caps " + word + " --ambient-caps " + word
	}
	return "exec setpriv --reuid " + as + " --regid " + as + " --init-groups" + caps + " " + env + " "
}
