package bucket

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
)

// send passes the request through the middleware; it returns the bucket and the body that the next handler sees.
func send(t *testing.T, config *Config, request *http.Request) (string, string) {
	t.Helper()
	var seenBucket, seenBody string
	next := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		seenBucket = r.Header.Get(bucketHeader)
		body, _ := io.ReadAll(r.Body)
		seenBody = string(body)
	})
	handler, err := New(context.Background(), next, config, "bucket")
	if err != nil {
		t.Fatal(err)
	}
	handler.ServeHTTP(httptest.NewRecorder(), request)
	return seenBucket, seenBody
}

func post(body string) *http.Request {
	return httptest.NewRequest(http.MethodPost, "/invocations", strings.NewReader(body))
}

func withHeader(name, value string) *http.Request {
	request := post("{}")
	request.Header.Set(name, value)
	return request
}

// The buckets of values that were computed with Python's hashlib: the first eight bytes of SHA-256 of "SALT/VALUE", modulo 100. A
// change moves customers from one version to the other in the middle of a rollout.
func TestTheBucketOfAValueIsFixed(t *testing.T) {
	for _, c := range []struct{ salt, value, bucket string }{
		{"churn", "customer-1", "60"},
		{"churn", "customer-2", "82"},
		{"loyal", "customer-1", "29"},
		{"", "customer-1", "25"},
	} {
		got, _ := send(t, &Config{Header: "x-customer", Salt: c.salt}, withHeader("x-customer", c.value))
		if got != c.bucket {
			t.Errorf("salt %q, value %q: bucket %q, expected %q", c.salt, c.value, got, c.bucket)
		}
	}
}

// Of 10,000 customers each bucket gets about a hundredth; the standard deviation is 10.
func TestBucketsAreEven(t *testing.T) {
	counts := map[string]int{}
	for n := 0; n < 10000; n++ {
		got, _ := send(t, &Config{Header: "x-customer", Salt: "churn"}, withHeader("x-customer", "customer-"+strconv.Itoa(n)))
		counts[got]++
	}
	if len(counts) != 100 {
		t.Fatalf("%d buckets, expected 100", len(counts))
	}
	for name, count := range counts {
		if count < 50 || count > 150 {
			t.Errorf("bucket %s has %d of 10,000 customers", name, count)
		}
	}
}

// A bucket that the client sends itself is removed, whether or not the request has a value to follow.
func TestAClientCannotChooseItsBucket(t *testing.T) {
	request := withHeader("x-customer", "customer-1")
	request.Header.Set(bucketHeader, "0")
	want, _ := send(t, &Config{Header: "x-customer"}, withHeader("x-customer", "customer-1"))
	if got, _ := send(t, &Config{Header: "x-customer"}, request); got != want || got == "0" {
		t.Errorf("bucket %q, expected %q", got, want)
	}
	if got, _ := send(t, &Config{Header: "x-other"}, withHeader(bucketHeader, "0")); got != "" {
		t.Errorf("bucket %q of a request without the header", got)
	}
}

// Every form of request that the server accepts, with the key 7 or "7", gives the bucket of "7"; the next handler gets the
// body as it was sent.
func TestTheKeyIsReadInEveryForm(t *testing.T) {
	want, _ := send(t, &Config{Header: "x-customer", Salt: "churn"}, withHeader("x-customer", "7"))
	for _, body := range []string{
		`{"dataframe_records": [{"customer": "7", "spend": 1}, {"customer": "8"}]}`,
		`{"dataframe_records": [{"spend": 1}, {"customer": 7}]}`,
		`{"dataframe_split": {"columns": ["spend", "customer"], "data": [[1, 7], [2, 8]]}}`,
		`{"instances": [{"customer": 7}]}`,
		`{"inputs": {"customer": ["7", "8"]}}`,
		`{"inputs": [{"name": "spend", "data": [1]}, {"name": "customer", "shape": [1], "data": [7]}]}`,
		`{"inputs": [{"name": "customer", "shape": [1, 1], "data": [["7"]]}]}`,
	} {
		got, seen := send(t, &Config{Column: "customer", Salt: "churn"}, post(body))
		if got != want {
			t.Errorf("%s: bucket %q, expected %q", body, got, want)
		}
		if seen != body {
			t.Errorf("the next handler saw %q of the body %q", seen, body)
		}
	}
}

// A key is one value however it is spelt: the server's table, which its own tests read too (tests/unit/test_schema.py), as JSON, and
// a text in the header too.
func TestAKeyIsOneValueHoweverItIsSpelt(t *testing.T) {
	content, err := os.ReadFile("testdata/keys.json")
	if err != nil {
		t.Fatal(err)
	}
	var table []struct {
		Cell string
		Key  *string
	}
	if err := json.Unmarshal(content, &table); err != nil || len(table) < 40 {
		t.Fatalf("%d spellings, %v", len(table), err)
	}
	for _, c := range table {
		want := ""
		if c.Key != nil {
			want, _ = send(t, &Config{Header: "x-customer"}, withHeader("x-customer", *c.Key))
		}
		if got, _ := send(t, &Config{Column: "customer"}, post(`{"instances": [{"customer": `+c.Cell+`}]}`)); got != want {
			t.Errorf("%s: bucket %q, expected %q of the key %v", c.Cell, got, want, c.Key)
		}
		var text string
		if json.Unmarshal([]byte(c.Cell), &text) == nil {
			if got, _ := send(t, &Config{Header: "x-customer"}, withHeader("x-customer", text)); got != want {
				t.Errorf("header %q: bucket %q, expected %q", text, got, want)
			}
		}
	}
}

// A number of a feature is one value too, also one with decimals, which is no key.
func TestANumberIsOneValueHoweverItIsSpelt(t *testing.T) {
	buckets := map[string]bool{}
	for _, cell := range []string{"2.5", "2.50", "25e-1", "0.25E1"} {
		got, _ := send(t, &Config{Column: "spend"}, post(`{"instances": [{"spend": `+cell+`}]}`))
		buckets[got] = true
	}
	if len(buckets) != 1 {
		t.Errorf("buckets %v of one number", buckets)
	}
	if got, _ := send(t, &Config{Column: "spend"}, post(`{"instances": [{"spend": 1e400}]}`)); got != "" {
		t.Errorf("bucket %q of a number that the server refuses", got)
	}
}

// A tensor's text in base64 is the text, and a mark of byte order before the body hides no key.
func TestTheKeyIsReadAsTheServerReadsIt(t *testing.T) {
	want, _ := send(t, &Config{Column: "customer"}, post(`{"instances": [{"customer": "7"}]}`))
	encoded := `{"inputs": [{"name": "customer", "datatype": "BYTES", "parameters": {"content_type": "base64"}, "data": ["Ny4w"]}]}`
	for _, body := range []string{encoded, "\xef\xbb\xbf" + `{"instances": [{"customer": 7}]}`} {
		if got, seen := send(t, &Config{Column: "customer"}, post(body)); got != want || seen != body {
			t.Errorf("%q: bucket %q, expected %q; the next handler saw %q", body, got, want, seen)
		}
	}
	broken := strings.Replace(encoded, "Ny4w", "?", 1)
	if got, _ := send(t, &Config{Column: "customer"}, post(broken)); got != "" {
		t.Errorf("bucket %q of a text that is no base64", got)
	}
}

// A request without a usable key has no bucket: the shares of the rollout apply to it. Its body stays as it was.
func TestARequestWithoutAKeyHasNoBucket(t *testing.T) {
	for _, body := range []string{
		"",
		"no json",
		`[1, 2]`,
		`{}`,
		`{"dataframe_records": []}`,
		`{"dataframe_records": [{"spend": 1}]}`,
		`{"dataframe_records": [{"customer": null}]}`,
		`{"dataframe_records": [{"customer": {"id": 7}}]}`,
		`{"dataframe_records": "customer"}`,
		`{"dataframe_split": {"columns": ["customer"], "data": []}}`,
		`{"dataframe_split": {"columns": ["spend", "customer"], "data": [[1]]}}`,
		`{"inputs": {"customer": []}}`,
		`{"inputs": [{"name": "customer"}]}`,
		`{"dataframe_records": [{"customer": "7", "note": "` + strings.Repeat("x", maxBodyBytes) + `"}]}`,
	} {
		got, seen := send(t, &Config{Column: "customer"}, post(body))
		if got != "" {
			t.Errorf("%.80s: bucket %q", body, got)
		}
		if seen != body {
			t.Errorf("%.80s: the next handler saw another body, %.80s", body, seen)
		}
	}
}

// A key of more digits than a float holds is not rounded: two neighbours are two customers.
func TestALongNumberIsNotRounded(t *testing.T) {
	for _, key := range []string{"9007199254740992", "9007199254740993"} {
		want, _ := send(t, &Config{Header: "x-customer"}, withHeader("x-customer", key))
		got, _ := send(t, &Config{Column: "customer"}, post(`{"instances": [{"customer": `+key+`}]}`))
		if got != want {
			t.Errorf("%s: bucket %q, expected %q", key, got, want)
		}
	}
}

// A body of unknown length is not read: it may have no end.
func TestABodyOfUnknownLengthIsNotRead(t *testing.T) {
	body := `{"instances": [{"customer": "7"}]}`
	request := post(body)
	request.ContentLength = -1
	if got, seen := send(t, &Config{Column: "customer"}, request); got != "" || seen != body {
		t.Errorf("bucket %q, body %q", got, seen)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("connection reset") }

// A client that closes the connection in the middle of its body causes no panic and gets no bucket.
func TestABrokenBodyHasNoBucket(t *testing.T) {
	request := httptest.NewRequest(http.MethodPost, "/invocations", broken{})
	request.ContentLength = 10
	if got, _ := send(t, &Config{Column: "customer"}, request); got != "" {
		t.Errorf("bucket %q", got)
	}
}
