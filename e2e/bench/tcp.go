package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/miekg/dns"
)

// connections is how many TCP clients there are. Each asks its next question once it has the answer to the last.
const connections = 8

// askTCP sends the questions at a fixed rate; one that finds every client waiting for an answer waits, too, and that
// counts.
func askTCP(server string, questions [][]byte, rcode int, rate float64, duration time.Duration) (sample, error) {
	type turn struct {
		question []byte
		start    time.Time
	}
	turns := make(chan turn, int(rate*duration.Seconds())+1)
	all, err := eachClient(server, func(c *tcpClient) (s sample, err error) {
		for t := range turns {
			got, err := c.ask(t.question)
			if err != nil {
				return s, err
			}
			s.took = append(s.took, time.Since(t.start))
			if got != rcode {
				s.wrong++
			}
		}
		return s, nil
	}, func() error {
		defer close(turns)
		return paced(rate, int(rate*duration.Seconds()), func(n int) error {
			turns <- turn{questions[n%len(questions)], time.Now()}
			return nil
		})
	})
	all.lost += len(turns) // left behind by clients that had an error
	return all, err
}

// floodTCP asks as much as it gets answers for. dnsperf cannot do it: replies of more than 16 KiB are too long for it.
func floodTCP(server string, questions [][]byte, rcode int, duration time.Duration) (flood, error) {
	started := time.Now()
	all, err := eachClient(server, func(c *tcpClient) (s sample, err error) {
		for n := 0; time.Since(started) < duration; n++ {
			start := time.Now()
			got, err := c.ask(questions[n%len(questions)])
			if err != nil {
				return s, err
			}
			s.took = append(s.took, time.Since(start))
			if got != rcode {
				s.wrong++
			}
		}
		return s, nil
	}, func() error { return nil })
	return flood{
		answered: len(all.took),
		rate:     float64(len(all.took)) / time.Since(started).Seconds(),
		rcodes:   map[string]int{dns.RcodeToString[rcode]: len(all.took) - all.wrong},
	}, err
}

// eachClient runs every client in a goroutine of its own, and meanwhile runs feed.
func eachClient(server string, run func(*tcpClient) (sample, error), feed func() error) (all sample, err error) {
	type outcome struct {
		sample
		err error
	}
	outcomes := make(chan outcome)
	for range connections {
		go func() {
			c, err := dialTCP(server)
			if err != nil {
				outcomes <- outcome{err: err}
				return
			}
			defer c.Close()
			s, err := run(c)
			outcomes <- outcome{s, err}
		}()
	}
	err = feed()
	for range connections {
		o := <-outcomes
		all.add(o.sample)
		err = errors.Join(err, o.err)
	}
	return all, err
}

// A tcpClient is one connection and what it reads into.
type tcpClient struct {
	net.Conn
	message []byte
}

func dialTCP(server string) (*tcpClient, error) {
	conn, err := net.Dial("tcp", server)
	if err != nil {
		return nil, err
	}
	return &tcpClient{conn, make([]byte, 0, 1<<16)}, nil
}

// ask sends a question and returns the rcode of its answer.
func (c *tcpClient) ask(question []byte) (rcode int, err error) {
	if err := c.SetDeadline(time.Now().Add(answerWithin)); err != nil {
		return 0, err
	}
	m := binary.BigEndian.AppendUint16(c.message[:0], uint16(len(question)))
	if _, err := c.Write(append(m, question...)); err != nil {
		return 0, fmt.Errorf("TCP: %w", err)
	}
	if _, err := io.ReadFull(c, m[:2]); err != nil {
		return 0, fmt.Errorf("TCP: %w", err)
	}
	reply := m[:binary.BigEndian.Uint16(m)]
	if _, err := io.ReadFull(c, reply); err != nil {
		return 0, fmt.Errorf("TCP: %w", err)
	}
	const header = 12
	if len(reply) < header {
		return 0, fmt.Errorf("TCP: a message of %d octets", len(reply))
	}
	return int(reply[3] & 0xf), nil
}
