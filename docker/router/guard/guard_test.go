package guard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
)

// A body that gives its text and then its error.
type broken struct {
	text io.Reader
	err  error
}

func (b *broken) Read(p []byte) (int, error) {
	n, err := b.text.Read(p)
	if err == io.EOF {
		return n, b.err
	}
	return n, err
}

func answered(next http.HandlerFunc, body io.Reader, length int64) *httptest.ResponseRecorder {
	handler, _ := New(context.Background(), next, CreateConfig(), "guard")
	request := httptest.NewRequest("POST", "/invocations", body)
	request.ContentLength = length
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, request)
	return recorder
}

func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, "Internal Server Error", 500)
		return
	}
	w.Write(body)
}

func TestAWholeBodyIsPassedOn(t *testing.T) {
	for _, size := range []int{1, maxStartBytes, maxStartBytes + 1, 3 * maxStartBytes} {
		text := strings.Repeat("x", size)
		for _, length := range []int64{int64(size), -1} {
			if answer := answered(echo, strings.NewReader(text), length); answer.Code != 200 || answer.Body.String() != text {
				t.Errorf("%d bytes, length %d: %d, %d bytes", size, length, answer.Code, answer.Body.Len())
			}
		}
	}
}

func TestABodyThatDoesNotArriveIsRefused(t *testing.T) {
	for err, code := range map[error]int{
		io.ErrUnexpectedEOF: 400, errors.New("invalid chunk"): 400, os.ErrDeadlineExceeded: 408,
		fmt.Errorf("%w", os.ErrDeadlineExceeded): 408,
	} {
		for _, size := range []int{0, 10, maxStartBytes + 1, 2 * maxStartBytes} {
			for _, length := range []int64{4 * maxStartBytes, -1} {
				answer := answered(echo, &broken{strings.NewReader(strings.Repeat("x", size)), err}, length)
				if answer.Code != code || !strings.HasPrefix(answer.Body.String(), `{"error":`) {
					t.Errorf("%v after %d: %d %s", err, size, answer.Code, answer.Body.String())
				}
				if answer.Header().Get("Connection") != "close" {
					t.Errorf("%v after %d: the connection stays", err, size)
				}
			}
		}
	}
}

func TestErrorsThatAreNoJSONAreReplaced(t *testing.T) {
	for code := range messages {
		code := code
		answer := answered(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "plain", code) }, strings.NewReader("x"), 1)
		if answer.Code != code || answer.Body.String() != `{"error":"`+messages[code]+`"}` {
			t.Errorf("%d: %d %s", code, answer.Code, answer.Body.String())
		}
	}
}

func TestASlotsOwnAnswersStay(t *testing.T) {
	for _, code := range []int{200, 400, 429, 500} {
		code := code
		own := func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(code)
			w.Write([]byte(`{"own":1}`))
		}
		if answer := answered(own, strings.NewReader("x"), 1); answer.Code != code || answer.Body.String() != `{"own":1}` {
			t.Errorf("%d: %d %s", code, answer.Code, answer.Body.String())
		}
	}
}

func TestNothingWrittenIsNo200(t *testing.T) {
	answer := answered(func(http.ResponseWriter, *http.Request) {}, strings.NewReader("x"), 1)
	if answer.Code != 499 {
		t.Errorf("%d", answer.Code)
	}
}

func TestWhatBelongsToNoModelIsAnsweredAtOnce(t *testing.T) {
	next := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("passed on") })
	handler, _ := New(context.Background(), next, &Config{Status: 404}, "guard")
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, httptest.NewRequest("GET", "/nobody", nil))
	if recorder.Code != 404 || recorder.Body.String() != `{"error":"`+messages[404]+`"}` {
		t.Errorf("%d %s", recorder.Code, recorder.Body.String())
	}
}
