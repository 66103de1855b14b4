package main

import (
	"encoding/binary"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// The parts of the API's protobuf that are written here by hand, so that an object is encoded once and then sent as it
// is to everybody: the envelope runtime.Unknown, lists, and metav1.WatchEvent in runtime.RawExtension. The field numbers
// are those of the generated.proto files beside those types.

// magic begins every object that stands alone.
var magic = []byte{'k', '8', 's', 0}

// lengthDelimited is the wire type of a field that holds octets.
const lengthDelimited = 2

func appendTag(b []byte, field int) []byte { return append(b, byte(field<<3|lengthDelimited)) }

// appendField appends a field that holds octets.
func appendField(b []byte, field int, octets []byte) []byte {
	b = appendTag(b, field)
	b = binary.AppendUvarint(b, uint64(len(octets)))
	return append(b, octets...)
}

// fieldSize is the length of what appendField appends.
func fieldSize(octets int) int { return 1 + uvarintSize(octets) + octets }

func uvarintSize(n int) int {
	var b [binary.MaxVarintLen64]byte
	return binary.PutUvarint(b[:], uint64(n))
}

// envelope is an object as it stands alone.
func envelope(apiVersion, kind string, raw []byte) []byte {
	b := envelopeHead(apiVersion, kind, len(raw))
	return append(b, raw...)
}

// envelopeHead is what comes before the octets of the object, of which there are size.
func envelopeHead(apiVersion, kind string, size int) []byte {
	types := appendField(appendField(nil, 1, []byte(apiVersion)), 2, []byte(kind))
	b := appendField(append(make([]byte, 0, 64+size), magic...), 1, types)
	b = appendTag(b, 2)
	return binary.AppendUvarint(b, uint64(size))
}

// frame is an event of a watch, with its length before it. The object is in its envelope.
func frame(event string, object []byte) []byte {
	size := fieldSize(len(event)) + fieldSize(fieldSize(len(object)))
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 4+size), uint32(size))
	b = appendField(b, 1, []byte(event))
	b = appendTag(b, 2)
	b = binary.AppendUvarint(b, uint64(fieldSize(len(object))))
	return appendField(b, 1, object)
}

// listHead is what comes before the items of a list.
func listHead(m metav1.ListMeta) []byte {
	raw, err := m.Marshal()
	if err != nil {
		panic(err) // three strings and a number always marshal
	}
	return appendField(nil, 1, raw)
}

// An object of the API, with its own encoding.
type object interface {
	runtime.Object
	metav1.Object
	Marshal() ([]byte, error)
}

// encode is the object at a resource version, without its envelope.
func encode(o object, version string) []byte {
	o.SetResourceVersion(version)
	raw, err := o.Marshal()
	if err != nil {
		panic(err) // the objects are ours
	}
	return raw
}
