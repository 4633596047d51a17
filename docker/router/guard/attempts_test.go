package guard

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// One attempt: what the slot, or Traefik for it, does with the request.
type attempt func(w http.ResponseWriter, r *http.Request)

func refused(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(502)
}

func brokenOff(w http.ResponseWriter, r *http.Request) {
	io.ReadAll(r.Body)
	w.WriteHeader(502)
}

func brokenOffInTheMiddle(w http.ResponseWriter, r *http.Request) {
	r.Body.Read(make([]byte, 1))
	w.WriteHeader(500)
}

func failed(w http.ResponseWriter, r *http.Request) {
	io.ReadAll(r.Body)
	w.Header().Set("X-Slot", "blue")
	w.WriteHeader(500)
}

// marks sends a request through both middlewares, with Traefik's between them replaced by these attempts, and returns what each of
// them got as X-Perennial-Sent-Again.
func marks(t *testing.T, body string, length int64, several ...attempt) string {
	var seen []string
	number := 0
	slot := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, "<"+r.Header.Get(sentAgainHeader)+">")
		several[number](w, r)
	})
	inner, _ := New(context.Background(), slot, &Config{Attempts: true}, "attempts")
	retry := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		whole, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		for number = range several {
			again := r.Clone(r.Context())
			again.Body = io.NopCloser(strings.NewReader(string(whole)))
			inner.ServeHTTP(httptest.NewRecorder(), again)
		}
		w.WriteHeader(200)
	})
	answered(retry.ServeHTTP, strings.NewReader(body), length)
	return strings.Join(seen, "")
}

func TestOnlyARequestThatASlotMayHaveDiedOfIsMarked(t *testing.T) {
	for want, several := range map[string][]attempt{
		"<><>":     {refused, refused},
		"<><1>":    {brokenOff, refused},
		"<><><1>":  {refused, brokenOffInTheMiddle, refused},
		"<><1><1>": {brokenOff, failed, failed},
		"<><><><>": {failed, failed, refused, refused},
	} {
		for _, length := range []int64{4, -1} {
			if got := marks(t, "rows", length, several...); got != want {
				t.Errorf("length %d: %s, not %s", length, got, want)
			}
		}
	}
}

func TestARequestThatIsNeverWrittenTwiceIsNotMarked(t *testing.T) {
	large := strings.Repeat("x", maxStartBytes+1)
	if got := marks(t, large, -1, brokenOff, brokenOff); got != "<><>" {
		t.Error(got)
	}
	if got := marks(t, "", 0, brokenOff, brokenOff); got != "<><>" {
		t.Error(got)
	}
}

// through sends a marked request to a slot that answers so, and returns the codes that Traefik's retrying middleware and the client
// get.
func through(t *testing.T, final string) (int, *httptest.ResponseRecorder) {
	slot := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(sentAgainHeader) == "" {
			brokenOff(w, r)
			return
		}
		w.Header().Set("X-Slot", "blue")
		w.Header().Set("Content-Type", "application/json")
		if final != "" {
			w.Header().Set(finalHeader, final)
		}
		w.WriteHeader(500)
		w.Write([]byte(`{"error":"own"}`))
	})
	inner, _ := New(context.Background(), slot, &Config{Attempts: true}, "attempts")
	between := 0
	answer := answered(func(w http.ResponseWriter, r *http.Request) {
		inner.ServeHTTP(httptest.NewRecorder(), r)
		r.Body = io.NopCloser(strings.NewReader("rows"))
		second := httptest.NewRecorder()
		inner.ServeHTTP(second, r)
		between = second.Code
		for name, values := range second.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(second.Code)
		w.Write(second.Body.Bytes())
	}, strings.NewReader("rows"), 4)
	return between, answer
}

func TestASlotsLastWordIsNotTriedAgain(t *testing.T) {
	between, answer := through(t, "1")
	if between != finalStatus || answer.Code != 500 || answer.Body.String() != `{"error":"own"}` {
		t.Errorf("%d %d %s", between, answer.Code, answer.Body.String())
	}
	if answer.Header().Get(finalHeader) != "" {
		t.Error("the client gets what is for the router")
	}
	if between, answer = through(t, ""); between != 500 || answer.Code != 500 {
		t.Errorf("%d %d", between, answer.Code)
	}
}
