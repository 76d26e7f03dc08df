package doctor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"aesthetic.computer/isofs/nginx"
	"aesthetic.computer/isofs/vfs"
)

// An nginx that isofs does not start has the part that nginx-config --site prints. These
// checks read its configuration as it prints it (nginx -T), which names each file.

// A confFile is a file of nginx's configuration.
type confFile struct{ path, text string }

var (
	confHeader    = regexp.MustCompile(`^# configuration file (.*):$`)
	threadPool    = regexp.MustCompile(`(?m)^\s*thread_pool\s+isofs\b`)
	workersUser   = regexp.MustCompile(`(?m)^\s*user\s+([^\s;]+)`)
	listens       = regexp.MustCompile(`(?m)^\s*listen\s+(\S+?)(\s[^;]*)?;`)
	answersToAll  = regexp.MustCompile(`(?m)^\s*server_name\s+_\s*;`)
	commentedLine = regexp.MustCompile(`(?m)^\s*#.*$`)
)

// parseConf splits what nginx -T prints.
func parseConf(dump string) (files []confFile) {
	for lines := bufio.NewScanner(strings.NewReader(dump)); lines.Scan(); {
		if m := confHeader.FindStringSubmatch(lines.Text()); m != nil {
			files = append(files, confFile{path: m[1]})
		} else if len(files) > 0 {
			files[len(files)-1].text += lines.Text() + "\n"
		}
	}
	for i := range files {
		files[i].text = commentedLine.ReplaceAllString(files[i].text, "")
	}
	return files
}

// ports returns the ports that a file listens on, or those where it is the default.
func (f confFile) ports(onlyDefault bool) (ports []string) {
	for _, m := range listens.FindAllStringSubmatch(f.text, -1) {
		if onlyDefault && !strings.Contains(m[2], "default_server") {
			continue
		}
		port := m[1][strings.LastIndexByte(m[1], ':')+1:]
		if _, err := strconv.Atoi(port); err != nil {
			port = "80"
		}
		ports = append(ports, port)
	}
	return ports
}

// isSite reports whether a file has what nginx-config prints.
func (f confFile) isSite() bool { return strings.Contains(f.text, "upstream isofs_api") }

// nginxChecks look at an nginx that another service runs, beside isofs mount.
func (d Doctor) nginxChecks() []check {
	var files []confFile
	of := func(look func([]confFile) error) func(context.Context) error {
		return func(context.Context) error {
			if files == nil {
				return errors.New("not known, as nginx does not accept its configuration")
			}
			return look(files)
		}
	}
	return []check{
		{"nginx", "nginx 1.22 or later with threads", func(ctx context.Context) error {
			_, err := nginx.Version(ctx, d.Server.Web.Binary)
			return err
		}, []string{"nginx-light"}, ""},
		{"nginx", "its configuration", func(ctx context.Context) (err error) {
			files, err = d.readConf(ctx)
			return err
		}, nil, "run nginx -t, as root"},
		{"nginx", "the part of isofs in it", of(hasSite), nil, "isofs nginx-config --site --listen 80 > /etc/nginx/conf.d/isofs.conf"},
		{"nginx", "the threads that read the mount", of(hasThreads), nil, "echo 'thread_pool isofs threads=32 max_queue=65536;' > /etc/nginx/modules-enabled/90-isofs.conf"},
		{"nginx", "no other site in the way", of(siteIsReached), nil, ""},
		{"nginx", "the mount, " + d.mount(), func(context.Context) error {
			mounted, alive, err := vfs.State(d.mount())
			if err == nil && (!mounted || !alive) {
				err = errors.New("nothing of isofs is mounted there")
			}
			return err
		}, nil, "start isofs mount, with the same --run"},
		{"nginx", "the API's socket, " + d.client().Socket, of(func(files []confFile) error { return mayConnect(files, d.client().Socket) }), nil, ""},
	}
}

// readConf returns the files of nginx's configuration.
func (d Doctor) readConf(ctx context.Context) ([]confFile, error) {
	binary, err := exec.LookPath(d.Server.Web.Binary)
	if err != nil {
		binary = "/usr/sbin/nginx" // root's programs are not on every user's path
	}
	cmd := exec.CommandContext(ctx, binary, "-T")
	var text strings.Builder
	cmd.Stderr = &text
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("nginx -T: %w: %s", err, strings.TrimSpace(text.String()))
	}
	files := parseConf(string(out))
	if len(files) == 0 {
		return nil, errors.New("nginx -T names no file")
	}
	return files, nil
}

func hasSite(files []confFile) error {
	if !slices.ContainsFunc(files, confFile.isSite) {
		return errors.New("it is in no file that nginx reads")
	}
	return nil
}

func hasThreads(files []confFile) error {
	if !slices.ContainsFunc(files, func(f confFile) bool { return threadPool.MatchString(f.text) }) {
		return errors.New("there is no line thread_pool isofs")
	}
	return nil
}

// siteIsReached looks for a default site that answers in place of a site without a name,
// as Debian's does.
func siteIsReached(files []confFile) error {
	for _, site := range files {
		if !site.isSite() || !answersToAll.MatchString(site.text) {
			continue
		}
		for _, other := range files {
			for _, port := range other.ports(true) {
				if other.path != site.path && slices.Contains(site.ports(false), port) {
					return fmt.Errorf("%s is the default on port %s and answers in its place: remove that file, or give nginx-config --server-name", other.path, port)
				}
			}
		}
	}
	return nil
}

// mayConnect checks that nginx's workers may connect to the API's socket.
func mayConnect(files []confFile, socket string) error {
	fi, err := os.Stat(socket)
	if err != nil {
		return fmt.Errorf("%w: start isofs mount, with the same --run", err)
	}
	name := "nobody" // nginx's own default
	for _, f := range files {
		if m := workersUser.FindStringSubmatch(f.text); m != nil {
			name = m[1]
		}
	}
	as, err := user.Lookup(name)
	if err != nil {
		return err
	}
	groups, err := as.GroupIds()
	if err != nil {
		return err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	group := strconv.Itoa(int(st.Gid))
	if fi.Mode().Perm()&0o002 != 0 || as.Uid == strconv.Itoa(int(st.Uid)) || fi.Mode().Perm()&0o020 != 0 && slices.Contains(groups, group) {
		return nil
	}
	if g, err := user.LookupGroupId(group); err == nil {
		group = g.Name
	}
	return fmt.Errorf("nginx's user %s is not in the group %s: usermod --append --groups %s %s, and restart nginx", name, group, group, name)
}
