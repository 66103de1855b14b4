// Package differential compares kubezone with the stock kubernetes plugin of CoreDNS: both follow one API server with the
// same Corefile, the cluster changes at random, and every answer must be equal or match an entry of one table of intended
// differences. The list of differences in the README at the top is that table.
package differential
