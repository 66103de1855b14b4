// Package faults holds tests that break what lies between a DNS server and a real API server, one fault a row, while
// questions are asked all the time. Every answer is judged by what the test itself wrote to the cluster.
package faults
