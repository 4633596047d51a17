// Package bucket is Traefik's middleware for rollouts that follow a header: it puts a request into one of 100 buckets by
// the header's value, and a router's rule tells the buckets apart. Traefik interprets it; nothing is compiled.
package bucket

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"net/http"
	"strconv"
)

const answer = "X-Perennial-Bucket"

// Config names the header, and a salt that makes each model's buckets its own.
type Config struct {
	Header string `json:"header,omitempty"`
	Salt   string `json:"salt,omitempty"`
}

// CreateConfig gives the configuration that Traefik fills.
func CreateConfig() *Config { return &Config{} }

type bucket struct {
	next   http.Handler
	config *Config
}

// New makes the middleware.
func New(_ context.Context, next http.Handler, config *Config, _ string) (http.Handler, error) {
	return &bucket{next, config}, nil
}

func (b *bucket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Header.Del(answer) // nobody chooses a bucket
	if key := r.Header.Get(b.config.Header); key != "" {
		sum := sha256.Sum256([]byte(b.config.Salt + "/" + key))
		r.Header.Set(answer, strconv.FormatUint(binary.BigEndian.Uint64(sum[:8])%100, 10))
	}
	b.next.ServeHTTP(w, r)
}
