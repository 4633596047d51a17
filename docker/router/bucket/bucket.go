// Package bucket is Traefik's middleware for rollouts that follow a header, or a column of the body such as the key: it puts
// a request into one of 100 buckets by the value, and a router's rule tells the buckets apart. Traefik interprets it; nothing
// is compiled.
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

const answer = "X-Perennial-Bucket"

// What is larger is not read for its key: it has many rows, and with them many keys.
const readBytes = 131072

// Config names the header, or the column, and a salt that makes each model's buckets its own.
type Config struct {
	Header string `json:"header,omitempty"`
	Column string `json:"column,omitempty"`
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
	if value := b.value(r); value != "" {
		sum := sha256.Sum256([]byte(b.config.Salt + "/" + value))
		r.Header.Set(answer, strconv.FormatUint(binary.BigEndian.Uint64(sum[:8])%100, 10))
	}
	b.next.ServeHTTP(w, r)
}

func (b *bucket) value(r *http.Request) string {
	if b.config.Column == "" {
		return r.Header.Get(b.config.Header)
	}
	if r.ContentLength <= 0 || r.ContentLength > readBytes {
		return ""
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return "" // the client went
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	var asked map[string]interface{}
	told := json.NewDecoder(bytes.NewReader(body))
	told.UseNumber()
	if told.Decode(&asked) != nil {
		return "" // the server says what is wrong with it
	}
	return valueOf(asked, b.config.Column)
}

// valueOf is what the first row that has the column says, in whichever form the rows come.
func valueOf(asked map[string]interface{}, column string) string {
	for _, form := range []string{"dataframe_records", "instances", "inputs"} {
		if columns, ok := asked[form].(map[string]interface{}); ok {
			return first(columns[column])
		}
		rows, _ := asked[form].([]interface{})
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
	split, _ := asked["dataframe_split"].(map[string]interface{})
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

func first(value interface{}) string {
	switch told := value.(type) {
	case string:
		return told
	case json.Number:
		return told.String()
	case []interface{}:
		if len(told) > 0 {
			return first(told[0])
		}
	}
	return ""
}
