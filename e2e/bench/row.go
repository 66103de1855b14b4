package main

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/miekg/dns"

	"github.com/kubezone/kubezone/e2e/bench/population"
)

// queryPopulation is the one that questions are asked about.
const queryPopulation = "a"

// questionsPerRow are different ones where there are as many, so that no cache line stays warm by chance.
const questionsPerRow = 2000

// A row is a kind of question.
type row struct {
	key     string // to select it with -rows
	name    string
	network string
	qtype   uint16
	rcode   int
	budgets []budget
	cannot  string // the side that has no such answer
	qname   func(p *population.Population, r *rand.Rand) string
}

// A budget is how much CPU a query may take beside stock's.
type budget struct {
	side string
	most float64
}

// rows are all the rows there are.
var rows = []row{
	{key: "clusterip", name: "ClusterIP A", network: "udp", qtype: dns.TypeA,
		budgets: []budget{{oursName, 0.85}, {batchName, 0.45}}, qname: clusterIP},
	{key: "nodata", name: "ClusterIP AAAA (NODATA)", network: "udp", qtype: dns.TypeAAAA, qname: clusterIP},
	{key: "search", name: "NXDOMAIN by search path", network: "udp", qtype: dns.TypeA, rcode: dns.RcodeNameError, qname: searched},
	{key: "headless20", name: "headless of 20, A", network: "udp", qtype: dns.TypeA,
		budgets: []budget{{batchName, 0.25}}, qname: fixed(population.Headless20)},
	{key: "headless5000", name: "headless of 5,000, A over UDP", network: "udp", qtype: dns.TypeA,
		budgets: []budget{{batchName, 1. / 200}}, qname: fixed(population.Headless5000)},
	{key: "headless5000tcp", name: "headless of 5,000, A over TCP", network: "tcp", qtype: dns.TypeA,
		cannot: knotName, qname: fixed(population.Headless5000)},
	{key: "headless5000aaaa", name: "headless of 5,000, AAAA (NODATA)", network: "udp", qtype: dns.TypeAAAA,
		budgets: []budget{{batchName, 1. / 300}}, qname: fixed(population.Headless5000)},
	{key: "hostname", name: "pod host name in headless of 5,000, A", network: "udp", qtype: dns.TypeA,
		budgets: []budget{{batchName, 0.12}}, qname: hostname},
	{key: "srv", name: "ClusterIP SRV", network: "udp", qtype: dns.TypeSRV, qname: srv},
	{key: "ptr", name: "PTR of services and pods", network: "udp", qtype: dns.TypePTR, qname: ptr},
}

// anyClusterIP picks one of the services with a ClusterIP.
func anyClusterIP(p *population.Population, r *rand.Rand) *population.Service {
	for {
		if s := &p.Services[r.IntN(len(p.Services))]; !s.Headless() {
			return s
		}
	}
}

func clusterIP(p *population.Population, r *rand.Rand) string { return anyClusterIP(p, r).FQDN() }

// searched is what a resolver with the search list of a pod makes of an outside name before it asks for that.
func searched(p *population.Population, r *rand.Rand) string {
	namespace := anyClusterIP(p, r).Namespace
	search := []string{namespace + ".svc.cluster.local.", "svc.cluster.local.", "cluster.local."}
	return "www.example.com." + search[r.IntN(len(search))]
}

func fixed(service string) func(*population.Population, *rand.Rand) string {
	return func(p *population.Population, _ *rand.Rand) string {
		s, _ := p.Find(service)
		return s.FQDN()
	}
}

func hostname(p *population.Population, r *rand.Rand) string {
	s, _ := p.Find(population.Headless5000)
	e := s.First + r.IntN(s.Count)
	return s.EndpointFQDN(e, population.Addr(e))
}

func srv(p *population.Population, r *rand.Rand) string {
	return "_http._tcp." + anyClusterIP(p, r).FQDN()
}

func ptr(p *population.Population, r *rand.Rand) string {
	if r.IntN(2) == 0 {
		return population.ReverseName(anyClusterIP(p, r).ClusterIP)
	}
	s, _ := p.Find(population.Headless5000)
	return population.ReverseName(population.Addr(s.First + r.IntN(s.Count)))
}

// questions are a row's qnames, the same in every run.
func (r *row) questions(p *population.Population) []string {
	random := rand.New(rand.NewPCG(1, 2))
	list := make([]string, questionsPerRow)
	for i := range list {
		list[i] = r.qname(p, random)
	}
	return list
}

// writeQuestions writes them in the way dnsperf reads them.
func (r *row) writeQuestions(p *population.Population, dir string) (path string, err error) {
	path = filepath.Join(dir, r.key+".questions")
	file, err := os.Create(path)
	if err != nil {
		return "", err
	}
	out := bufio.NewWriter(file)
	for _, name := range r.questions(p) {
		fmt.Fprintf(out, "%s %s\n", name, dns.TypeToString[r.qtype])
	}
	if err := out.Flush(); err != nil {
		file.Close()
		return "", err
	}
	return path, file.Close()
}

// messages are the questions as they go over the wire, like glibc's: without EDNS.
func (r *row) messages(p *population.Population) ([][]byte, error) {
	var list [][]byte
	for _, name := range r.questions(p) {
		m, err := new(dns.Msg).SetQuestion(name, r.qtype).Pack()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		list = append(list, m)
	}
	return list, nil
}
