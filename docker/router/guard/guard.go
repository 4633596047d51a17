// Package guard is Traefik's outermost middleware of each model. It reads the start of a body before the middleware that
// retries does, which takes a body that was cut short for a whole one. And it gives each error that the router makes itself as
// JSON, as the slots give theirs. attempts.go is the same model's innermost middleware. Traefik interprets these files with
// Yaegi; nothing is compiled.
package guard

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
)

// As much of a body as the retrying middleware reads before it passes a request on.
const maxStartBytes = 131072

var messages = map[int]string{
	400: "the body ended before its length was reached, or its chunks are invalid; send the whole body",
	404: "no model is live at this address; a model's requests go to /MODEL/invocations",
	408: "the body did not arrive in time; the models' rollout.serving.request_s is the limit",
	429: "too many requests from this address; the model's rollout.serving.rate_limit is the limit a second",
	499: "the client closed the connection before it was answered",
	500: "the router could not pass the request on; try again",
	502: "the slot broke off before it answered; try again",
	503: "no slot is there to answer; try again later",
	504: "the slot did not answer in time; try again later",
}

// Config says how a request is answered that belongs to no model (0 for a model's, which are passed on), and whether this is the
// middleware that sees each attempt.
type Config struct {
	Status   int  `json:"status,omitempty"`
	Attempts bool `json:"attempts,omitempty"`
}

// CreateConfig returns the configuration of a model's guard.
func CreateConfig() *Config { return &Config{} }

type guard struct {
	next   http.Handler
	status int
}

// New returns the middleware in front of the handler next.
func New(_ context.Context, next http.Handler, config *Config, _ string) (http.Handler, error) {
	if config.Attempts {
		return &attempts{next}, nil
	}
	return &guard{next, config.Status}, nil
}

func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := &answer{ResponseWriter: w}
	if g.status != 0 {
		a.WriteHeader(g.status)
		return
	}
	if r.ContentLength != 0 && r.Body != nil {
		if err := readStart(r, a); err != nil {
			a.partial = true
			a.WriteHeader(statusOf(err))
			return
		}
		if 0 < r.ContentLength && r.ContentLength <= maxStartBytes {
			r = remembering(r)
		}
	}
	g.next.ServeHTTP(a, r)
	if !a.written {
		a.WriteHeader(499) // the client is away; a handler that writes nothing would be a 200
	}
}

// readStart reads a body up to maxStartBytes, or one byte more of a longer one.
func readStart(r *http.Request, a *answer) error {
	if 0 < r.ContentLength && r.ContentLength <= maxStartBytes {
		body := make([]byte, r.ContentLength)
		if _, err := io.ReadFull(r.Body, body); err != nil {
			return err
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		return nil
	}
	start, err := io.ReadAll(io.LimitReader(r.Body, maxStartBytes+1))
	if err != nil {
		return err
	}
	if len(start) > maxStartBytes {
		a.partial = true
		r.Body = io.NopCloser(&watched{io.MultiReader(bytes.NewReader(start), r.Body), a})
		return nil
	}
	r.ContentLength = int64(len(start))
	r.TransferEncoding = nil
	r.Body = io.NopCloser(bytes.NewReader(start))
	return nil
}

// statusOf returns 408 for a body that stalls, and 400 for one that is cut short or has invalid chunks.
func statusOf(err error) int {
	// HTTP/2 wraps the error.
	if late, ok := err.(net.Error); (ok && late.Timeout()) || errors.Is(err, os.ErrDeadlineExceeded) {
		return http.StatusRequestTimeout
	}
	return http.StatusBadRequest
}

// watched is a body of which the rest is still to come. What goes wrong with it is the status of the answer.
type watched struct {
	body   io.Reader
	answer *answer
}

func (b *watched) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	if err != nil && err != io.EOF {
		atomic.StoreInt32(&b.answer.fault, int32(statusOf(err)))
	}
	return n, err
}

// answer replaces errors that are no JSON.
type answer struct {
	http.ResponseWriter
	fault    int32
	partial  bool
	written  bool
	replaced bool
}

func (a *answer) WriteHeader(code int) {
	if a.written || code < 200 {
		a.ResponseWriter.WriteHeader(code)
		return
	}
	a.written = true
	if code < 400 {
		a.ResponseWriter.WriteHeader(code)
		return
	}
	header := a.Header()
	if code == finalStatus {
		code = http.StatusInternalServerError
		header.Del(finalHeader)
	}
	if a.partial {
		header.Set("Connection", "close") // or the server waits for the rest of the body before it answers
	}
	if fault := atomic.LoadInt32(&a.fault); fault != 0 {
		code = int(fault)
	} else if strings.HasPrefix(header.Get("Content-Type"), "application/json") {
		a.ResponseWriter.WriteHeader(code)
		return
	}
	message, ok := messages[code]
	if !ok {
		message = http.StatusText(code)
	}
	body := []byte(`{"error":"` + message + `"}`)
	header.Set("Content-Type", "application/json")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	a.replaced = true
	a.ResponseWriter.WriteHeader(code)
	a.ResponseWriter.Write(body)
}

func (a *answer) Write(body []byte) (int, error) {
	if !a.written {
		a.WriteHeader(http.StatusOK)
	}
	if a.replaced {
		return len(body), nil
	}
	return a.ResponseWriter.Write(body)
}
