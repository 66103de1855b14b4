package kube

import (
	"context"
	"reflect"
)

// An identity tells Stores apart.
type identity struct {
	config      Config
	credentials string // what the files that the Config names held when it was opened
}

func (i identity) equal(o identity) bool {
	return i.credentials == o.credentials && reflect.DeepEqual(i.config, o.config)
}

// A source fills Stores.
type source interface {
	// credentials is what makes another Store of an equal Config.
	credentials() string
	// start begins to fill the Store with goroutines that Store.work counts
	// and that end once ctx is done.
	start(ctx context.Context, s *Store) error
}

// newSource checks the Config as far as that is possible without the API
// server.
func newSource(c Config) (source, error) {
	if _, _, err := c.selectors(); err != nil {
		return nil, err
	}
	if len(c.Manifests) > 0 {
		return newManifests(c)
	}
	return newCluster(c)
}
