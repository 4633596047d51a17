package guard

import (
	"context"
	"io"
	"net/http"
)

// The key under which a request's context says whether an attempt may have reached a slot that then broke off.
const writtenKey = "perennial.written"

// What a slot gets with such a request, and with its last word on one that ended the process that it was given to.
const (
	sentAgainHeader = "X-Perennial-Sent-Again"
	finalHeader     = "X-Perennial-Final"
)

// The status of that last word between this middleware and the outermost one: the one that retries tries 500 again.
const finalStatus = 599

// remembering returns the request with room in its context, which all of its attempts share; they follow one another.
func remembering(r *http.Request) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), writtenKey, new(int32)))
}

// attempts stands behind the middleware that retries and sees each attempt of a small request. Once one was written to a slot that
// gave no answer, the slot may have died of it, and every later attempt says so.
type attempts struct {
	next http.Handler
}

func (m *attempts) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	written, ok := r.Context().Value(writtenKey).(*int32)
	if !ok {
		m.next.ServeHTTP(w, r)
		return
	}
	if *written != 0 {
		r.Header.Set(sentAgainHeader, "1")
		m.next.ServeHTTP(&finalAnswer{w}, r)
		return
	}
	m.next.ServeHTTP(w, r)
	// Each answer of a slot names it. An attempt whose body is still whole was written to nobody.
	if w.Header().Get("X-Slot") == "" {
		if rest, _ := io.Copy(io.Discard, r.Body); rest < r.ContentLength {
			*written = 1
		}
	}
}

// finalAnswer passes a slot's last word through the middleware that retries.
type finalAnswer struct {
	http.ResponseWriter
}

func (a *finalAnswer) WriteHeader(code int) {
	if code == http.StatusInternalServerError && a.Header().Get(finalHeader) != "" {
		code = finalStatus
	}
	a.ResponseWriter.WriteHeader(code)
}
