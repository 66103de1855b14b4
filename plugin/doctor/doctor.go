// Package doctor is the subcommand doctor of the server: it looks at a Corefile,
// at resolv.conf and at the cluster, and says what is wrong and how to mend it.
// It changes nothing.
package doctor

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	clog "github.com/coredns/coredns/plugin/pkg/log"
)

// Exit codes, the worst of what was found.
const (
	exitFine     = 0 // notes at most
	exitWarnings = 1
	exitErrors   = 2
	exitUsage    = 3
)

// patience is how long everything that is asked of the cluster may take.
const patience = time.Minute

const usage = `Usage: coredns doctor [FLAG...]

Looks at a Corefile, at resolv.conf and at the cluster, and says what is wrong
and how to mend it. Without flags it looks at what the server in this pod would
see. The exit code is 0 if there is nothing to mend, 1 for warnings, 2 for errors,
and 3 if it cannot be told.

`

// A Build is what doctor has to know of the program that it is part of.
type Build struct {
	Directives []string          // all that a Corefile may have
	LeftOut    map[string]string // those of them that are refused, and what to do instead
}

// options are those of the command line.
type options struct {
	corefile      string
	resolvConf    string // "" for what the Corefile names
	podResolvConf string // "" for none
	kubeconfig    string // "" for the source that the Corefile names
	as            string // "" for whose credentials these are
	service       string // NAMESPACE/NAME
	offline       offline
}

// offline says that no API server is asked.
type offline bool

// Run is the subcommand, with the arguments behind its name. It returns the exit
// code.
func Run(args []string, b Build, stdout, stderr io.Writer) int {
	clog.Discard() // findings are all that there is to say
	o, err := parseFlags(args, stderr)
	if err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(stderr, err)
		}
		return exitUsage
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	d := &diagnosis{ctx: ctx, options: o, build: b}
	d.examine()
	d.write(stdout)
	return d.exitCode()
}

func parseFlags(args []string, stderr io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("doctor", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() {
		fmt.Fprint(stderr, usage)
		f.PrintDefaults()
	}
	f.StringVar(&o.corefile, "conf", "Corefile", "the Corefile, `FILE`")
	f.StringVar(&o.resolvConf, "resolv-conf", "", "what the server sees as /etc/resolv.conf, `FILE` (default that)")
	f.StringVar(&o.podResolvConf, "pod-resolv-conf", "", "the /etc/resolv.conf of an ordinary pod, `FILE`; without it a pod's own resolv.conf is taken, if this is one")
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "ask the API server of this kubeconfig, `FILE`, instead of that of the Corefile")
	f.StringVar(&o.as, "as", "", "check the rights of this `USER`, such as system:serviceaccount:kube-system:coredns")
	f.StringVar(&o.service, "service", "kube-system/kube-dns", "the Service in front of the server, `NAMESPACE/NAME`")
	f.BoolFunc("offline", "ask no API server", func(string) error { o.offline = true; return nil })
	if err := f.Parse(args); err != nil {
		return o, flag.ErrHelp // it has said what is wrong
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("doctor: surplus argument %q; see coredns doctor -h", f.Arg(0))
	}
	if namespace, name, _ := strings.Cut(o.service, "/"); namespace == "" || name == "" || strings.Contains(name, "/") {
		return o, fmt.Errorf("-service %q: want NAMESPACE/NAME", o.service)
	}
	return o, nil
}

// A diagnosis is one run.
type diagnosis struct {
	ctx      context.Context
	options  options
	build    Build
	blocks   []block
	findings []finding
}

// examine goes from what is near to what depends on it.
func (d *diagnosis) examine() {
	if !d.readCorefile() {
		return
	}
	for _, b := range d.blocks {
		d.examinePlugins(b)
		d.examineProfiling(b)
		if b.cluster != nil {
			d.examineGuards(b)
			d.examineCache(b)
		}
	}
	var c *cluster
	if source := d.source(); source != nil {
		c = d.examineCluster(*source)
	}
	for _, b := range d.blocks {
		d.examineForward(b, c)
	}
	d.examinePodResolver(c)
}
