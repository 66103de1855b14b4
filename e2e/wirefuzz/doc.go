// Package wirefuzz sends the running server what no resolver would: broken messages over UDP and TCP, among valid queries
// that must all be answered rightly meanwhile.
package wirefuzz
