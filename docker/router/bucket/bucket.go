// Package bucket is Traefik's middleware for rollouts that follow a header or a column of the body. It puts each request
// into one of 100 buckets by the hash of the value; the rules of the routers select the version by the bucket. Traefik
// interprets this file with Yaegi; nothing is compiled.
package bucket

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
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
	if value := canonical(b.value(r)); value != "" {
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
	decoder := json.NewDecoder(bytes.NewReader(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf"))))
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
				return decoded(first(data), cells["parameters"]) // a tensor of the Open Inference Protocol
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
		return digits(cell.String())
	case []interface{}:
		if len(cell) > 0 {
			return first(cell[0])
		}
	}
	return ""
}

// decoded returns the text that a tensor's value stands for, by the tensor's parameters.
func decoded(value string, parameters interface{}) string {
	given, _ := parameters.(map[string]interface{})
	if given["content_type"] != "base64" {
		return value
	}
	text, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		return "" // the server refuses the value and says why
	}
	return string(text)
}

// digits returns a JSON number as the server reads it, without an exponent or zeros behind its last decimal: 7920.0 and
// 7.92e3 are 7920. A whole number keeps all its digits, however many these are.
func digits(number string) string {
	if !strings.ContainsAny(number, ".eE") {
		return number
	}
	value, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return "" // too large; the server refuses it
	}
	return strconv.FormatFloat(value, 'f', -1, 64)
}

// canonical returns the one text of a key, as spelling.key in pipeline/serving/schema has it; testdata/keys.json is tested
// against both. Of a text like 7920.0, a whole number without zeros before it, that is the part before the point.
func canonical(text string) string {
	whole, zeros := text, ""
	if point := strings.IndexByte(text, '.'); point >= 0 {
		whole, zeros = text[:point], text[point+1:]
		if zeros == "" || strings.Trim(zeros, "0") != "" {
			return text
		}
	}
	unsigned := strings.TrimPrefix(whole, "-")
	if unsigned == "" || strings.Trim(unsigned, "0123456789") != "" || (unsigned[0] == '0' && unsigned != "0") {
		return text
	}
	if whole == "-0" {
		return "0"
	}
	return whole
}
