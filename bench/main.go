// Command bench measures isofs beside other ways to serve the same image, in
// one run and round by round, and writes a table, a chart and a list of goals.
//
// It does not measure a network: all connections are loopback, without TLS. It
// runs the isofs binary and imports none of its packages.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options of one run.
type options struct {
	baseMiB   int   // size of the base's second partition
	bytes     int64 // of each stream, warm
	cold      int64 // of each stream, cold
	rounds    int
	requests  int // of 4 KiB
	only      string
	systems   string
	out, data string
}

func main() {
	if len(os.Args) == 5 && os.Args[1] == overlayMode {
		fmt.Fprintln(os.Stderr, serveOverlay(os.Args[2], os.Args[3], os.Args[4]))
		os.Exit(1)
	}
	var o options
	quick := flag.Bool("quick", false, "a look at the harness: small base, one round")
	flag.IntVar(&o.baseMiB, "base-mib", 2000, "MiB of the base's live partition")
	flag.Int64Var(&o.bytes, "bytes", 500_000_000, "bytes of each warm stream")
	flag.Int64Var(&o.cold, "cold-bytes", 500_000_000, "bytes of a cold download")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds, each with all systems")
	flag.IntVar(&o.requests, "requests", 20_000, "random reads of 4 KiB")
	flag.StringVar(&o.only, "only", "", "cases to measure, by commas, of warm, cold, thousand, damage, os; if empty, all, and the results are written")
	flag.StringVar(&o.systems, "systems", "", "systems of the warm case, by commas and parts of their names, beside plain; all if empty")
	flag.StringVar(&o.out, "out", "bench/results", "folder of the table and the chart")
	flag.StringVar(&o.data, "data", "/var/tmp/isofs-bench", "folder of the base, kept from run to run; isofs's user must be able to enter it")
	flag.Parse()
	if *quick {
		o.baseMiB, o.bytes, o.cold, o.rounds, o.requests = 300, 100_000_000, 50_000_000, 1, 1000
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run prepares a lab, measures in it and prints the results.
func run(ctx context.Context, o options) error {
	// Not below the home of root, which isofs's user cannot enter.
	dir, err := os.MkdirTemp("/var/tmp", "isofs-bench-")
	if err != nil {
		return err
	}
	l := &lab{ctx: ctx, dir: dir, o: o}
	defer l.clean()
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	if err := l.prepare(); err != nil {
		return err
	}
	r, asked := &results{}, &results{}
	for _, c := range []struct {
		name    string
		measure func(*results) error
		to      *results
	}{{"warm", l.warm, r}, {"cold", l.coldCases, r}, {"thousand", l.thousandCase, r}, {"damage", l.damageCase, r}, {"os", l.orders, asked}} {
		if o.only != "" && !slices.Contains(strings.Split(o.only, ","), c.name) {
			continue
		}
		if err := c.measure(c.to); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	text := r.markdown(o) + asked.ordersMarkdown()
	fmt.Print(text)
	if o.only != "" {
		return nil
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	name := filepath.Join(o.out, time.Now().UTC().Format("2006-01-02"))
	if err := os.WriteFile(name+".md", []byte(text), 0o644); err != nil {
		return err
	}
	return os.WriteFile(name+".svg", []byte(r.svg("8 pieces", "warm, 8 different pieces: MB/s")), 0o644)
}
