// Package bucket is Traefik's middleware for rollouts that follow a header or a column of the body. It puts each request
// into one of 100 buckets by the hash of the value; the rules of the routers select the version by the bucket. Traefik
// interprets this file with Yaegi; nothing is compiled.
package bucket

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
)

// The request header that carries the bucket, 0 to 99, to the rules of the routers.
const bucketHeader = "X-Perennial-Bucket"

// A larger body is not searched for its key: it has many rows, and with them many keys.
const maxBodyBytes = 131072

// Config names the header or the column that is followed. The salt is the model's, so that a customer's buckets differ
// between models.
type Config struct {
	Header string `json:"header,omitempty"`
	Column string `json:"column,omitempty"`
	Salt   string `json:"salt,omitempty"`
}

// CreateConfig returns the empty configuration that Traefik fills in.
func CreateConfig() *Config { return &Config{} }

type bucket struct {
	next   http.Handler
	config *Config
}

// New returns the middleware in front of the handler next.
func New(_ context.Context, next http.Handler, config *Config, _ string) (http.Handler, error) {
	return &bucket{next, config}, nil
}

func (b *bucket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Header.Del(bucketHeader) // a client must not choose its bucket
	if value := b.value(r); value != "" {
		sum := sha256.Sum256([]byte(b.config.Salt + "/" + value))
		r.Header.Set(bucketHeader, strconv.FormatUint(binary.BigEndian.Uint64(sum[:8])%100, 10))
	}
	b.next.ServeHTTP(w, r)
}

// value returns the value that the request is followed by, or "" when it has none.
func (b *bucket) value(r *http.Request) string {
	if b.config.Column == "" {
		return r.Header.Get(b.config.Header)
	}
	if r.ContentLength <= 0 || r.ContentLength > maxBodyBytes {
		return ""
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return "" // the client has closed the connection
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	var request map[string]interface{}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber() // a key of 19 digits must not be rounded
	if decoder.Decode(&request) != nil {
		return "" // the server refuses the body and says why
	}
	return valueOf(request, b.config.Column)
}

// valueOf returns the column's value in the first row that has it, in any of the request forms that the server accepts.
func valueOf(request map[string]interface{}, column string) string {
	for _, form := range []string{"dataframe_records", "instances", "inputs"} {
		if columns, ok := request[form].(map[string]interface{}); ok {
			return first(columns[column])
		}
		rows, _ := request[form].([]interface{})
		for _, row := range rows {
			cells, _ := row.(map[string]interface{})
			if data, ok := cells["data"]; ok && cells["name"] == column {
				return first(data) // a tensor of the Open Inference Protocol
			}
			if cell, ok := cells[column]; ok {
				return first(cell)
			}
		}
	}
	split, _ := request["dataframe_split"].(map[string]interface{})
	names, _ := split["columns"].([]interface{})
	rows, _ := split["data"].([]interface{})
	for i, name := range names {
		if name == column && len(rows) > 0 {
			if cells, ok := rows[0].([]interface{}); ok && i < len(cells) {
				return first(cells[i])
			}
		}
	}
	return ""
}

// first returns a text or a number as text, of a list its first element; "" for anything else.
func first(value interface{}) string {
	switch cell := value.(type) {
	case string:
		return cell
	case json.Number:
		return cell.String()
	case []interface{}:
		if len(cell) > 0 {
			return first(cell[0])
		}
	}
	return ""
}
