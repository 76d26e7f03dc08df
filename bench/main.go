// Command bench measures isofs beside other ways to serve the same image, in
// one run and round by round, and writes a table, a chart and a list of goals.
//
// It leaves out the wire: all is loopback, without TLS. It imports nothing of
// isofs; it runs its binary.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
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
	out, data string
}

func main() {
	if len(os.Args) == 5 && os.Args[1] == overlayMode {
		fmt.Fprintln(os.Stderr, serveOverlay(os.Args[2], os.Args[3], os.Args[4]))
		os.Exit(1)
	}
	var o options
	only := flag.String("only", "", "os: only /os, its latency and a download beside a hung oven; nothing is written")
	quick := flag.Bool("quick", false, "a look at the harness: small base, one round")
	flag.IntVar(&o.baseMiB, "base-mib", 2000, "MiB of the base's live partition")
	flag.Int64Var(&o.bytes, "bytes", 500_000_000, "bytes of each warm stream")
	flag.Int64Var(&o.cold, "cold-bytes", 500_000_000, "bytes of a cold download")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds, each with all systems")
	flag.IntVar(&o.requests, "requests", 20_000, "random reads of 4 KiB")
	flag.StringVar(&o.out, "out", "bench/results", "folder of the table and the chart")
	flag.StringVar(&o.data, "data", "/var/tmp/isofs-bench", "folder of the base, kept from run to run; isofs's user must be able to enter it")
	flag.Parse()
	if *quick {
		o.baseMiB, o.bytes, o.cold, o.rounds, o.requests = 300, 100_000_000, 50_000_000, 1, 1000
	}
	cases := map[string]func(*lab) error{"": all, "os": onlyOrders}[*only]
	if cases == nil {
		fmt.Fprintf(os.Stderr, "bench: -only %s is not os\n", *only)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o, cases)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run prepares a lab and does what is to be done in it.
func run(ctx context.Context, o options, cases func(*lab) error) error {
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
	return cases(l)
}

// onlyOrders prints what there is to say of /os.
func onlyOrders(l *lab) error {
	r := &results{}
	if err := l.orders(r); err != nil {
		return err
	}
	fmt.Print(r.table("plain nginx, a small file"))
	fmt.Printf("\na download beside a hung oven, by one without: %.2f\n",
		r.ratio("a download", "MB/s", "32 wait for a hung oven", "nobody waits for the oven"))
	return nil
}

// all is isofs beside its peers.
func all(l *lab) error {
	r, o := &results{}, l.o
	if err := l.warm(r); err != nil {
		return err
	}
	for _, more := range []func(*results) error{l.coldCases, l.thousandCase, l.damageCase} {
		if err := more(r); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	name := filepath.Join(o.out, time.Now().UTC().Format("2006-01-02"))
	text := r.markdown(o)
	fmt.Print(text)
	if err := os.WriteFile(name+".md", []byte(text), 0o644); err != nil {
		return err
	}
	return os.WriteFile(name+".svg", []byte(r.svg("8 pieces", "warm, 8 different pieces: MB/s")), 0o644)
}
