"""The Open Inference Protocol v2: what a request says of its tensors is checked, never ignored."""

import base64
import json
import struct

import pytest
from starlette.testclient import TestClient

from pipeline.serving.app import App
from pipeline.serving.identity import Identity
from pipeline.serving.runtime import Runtime

INFER = "/v2/models/churn/infer"


@pytest.fixture(scope="module")
def client(churn_package):
    return TestClient(App(Runtime.load(churn_package), None, Identity("churn", "3", "blue")))


def tensor(name, data, datatype, **more):
    return {"name": name, "datatype": datatype, "shape": [len(data)], "data": data, **more}


def inputs(**changed):
    good = {
        "spend": tensor("spend", [10.0], "FP32"),
        "calls": tensor("calls", [4], "INT64"),
        "plan": tensor("plan", ["plus"], "BYTES"),
    }
    return [one for one in {**good, **changed}.values() if one is not None]


def ask(client, *, changed=None, **more):
    return client.post(INFER, json={"inputs": inputs(**(changed or {})), **more})


@pytest.fixture(scope="module")
def expected(client):
    answer = ask(client)
    assert answer.status_code == 200, answer.text
    return answer.json()["outputs"][0]["data"]


@pytest.mark.parametrize(
    "changed",
    [
        {"spend": tensor("spend", [10], "INT8")},
        {"spend": tensor("spend", [10.0], "FP16")},
        {"spend": tensor("spend", [10], "UINT64")},
        {"calls": tensor("calls", [4.0], "INT32")},
        {"calls": tensor("calls", [[4.0]], "FP64", shape=[1, 1], parameters={"content_type": "np"})},
        {"plan": tensor("plan", ["plus"], "BYTES", parameters={"content_type": "str"})},
        {"plan": tensor("plan", [base64.b64encode(b"plus").decode()], "BYTES", parameters={"content_type": "base64"})},
        {"customer": tensor("customer", [7], "INT64")},
        {"customer": tensor("customer", ["c7"], "BYTES"), "seen_at": tensor("seen_at", ["2024-02-01"], "BYTES")},
    ],
)
def test_a_datatype_that_loses_nothing_gives_the_same_answer(client, expected, changed):
    """Any datatype of numbers for a number, BYTES for a text, base64 and plain; BYTES or whole numbers for the key."""
    answer = ask(client, changed=changed)
    assert answer.status_code == 200, answer.text
    assert answer.json()["outputs"][0]["data"] == expected


def test_booleans_are_zero_and_one(client):
    """A number column takes BOOL, as JSON and as binary, and any datatype may have a null."""
    as_number = ask(client, changed={"calls": tensor("calls", [1], "FP32")}).json()["outputs"]
    assert ask(client, changed={"calls": tensor("calls", [True], "BOOL")}).json()["outputs"] == as_number
    binary = {"name": "calls", "datatype": "BOOL", "shape": [1], "parameters": {"binary_data_size": 1}}
    head = json.dumps({"inputs": inputs(calls=binary)}).encode()
    headers = {"inference-header-content-length": str(len(head))}
    assert client.post(INFER, content=head + b"\x01", headers=headers).json()["outputs"] == as_number
    refused = client.post(INFER, content=head + b"\x02", headers=headers)
    assert (refused.status_code, refused.json()["error"]) == (
        400,
        "input calls: value 0 must be true or false for BOOL; got 2",
    )
    missing = [
        ask(client, changed={"calls": tensor("calls", [None], kind)}).json() for kind in ("BOOL", "INT8", "FP32")
    ]
    assert missing[0] == missing[1] == missing[2]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"spend": tensor("spend", [10.0], "FOO")}, "input spend: datatype must be one of FP16, FP32"),
        ({"spend": {"name": "spend", "shape": [1], "data": [10.0]}}, "input spend: datatype must be one of"),
        ({"spend": tensor("spend", [10.0], None)}, "got null"),
        ({"spend": tensor("spend", [10.0], ["FP32"])}, "input spend: datatype must be one of"),
        ({"spend": tensor("spend", ["10"], "BYTES")}, "for this column; got BYTES"),
        ({"plan": tensor("plan", [1], "INT32")}, 'column plan must be one of basic, plus; got "1"'),
        ({"plan": tensor("plan", [1], "BYTES")}, "input plan: value 0 must be text for BYTES; got 1"),
        ({"customer": tensor("customer", [1.0], "FP32")}, "input customer: datatype must be one of BYTES, INT8"),
        ({"calls": tensor("calls", [4.5], "INT32")}, "value 0 must be a whole number from -2147483648 to 2147483647"),
        ({"calls": tensor("calls", [300], "INT8")}, "from -128 to 127 for INT8; got 300"),
        ({"calls": tensor("calls", [-1], "UINT8")}, "from 0 to 255 for UINT8; got -1"),
        ({"calls": tensor("calls", [True], "INT8")}, "got true"),
        ({"calls": tensor("calls", ["4"], "FP32")}, 'got "4"'),
        ({"spend": tensor("spend", [1e5], "FP16")}, "a number up to 65504 for FP16"),
        ({"calls": tensor("calls", [2], "BOOL")}, "must be true or false for BOOL; got 2"),
        (
            {"plan": tensor("plan", ["YmFk"], "BYTES", parameters={"content_type": "base64"})},
            'must be one of basic, plus; got "bad"',
        ),
        (
            {"plan": tensor("plan", ["pl*s"], "BYTES", parameters={"content_type": "base64"})},
            "value 0 is not base64 of UTF-8 text",
        ),
        (
            {"plan": tensor("plan", ["plus"], "BYTES", parameters={"content_type": "pickle"})},
            'content_type must be one of base64, np, str; got "pickle"',
        ),
        (
            {"spend": tensor("spend", [10.0], "FP32", parameters={"content_type": "str"})},
            "datatype must be BYTES with content_type str",
        ),
        ({"spend": tensor("spend", [10.0], "FP32", parameters=[1])}, "input spend: parameters must be an object"),
        (
            {"spend": tensor("spend", [10.0], "FP32", parameters={"shared_memory_region": "a"})},
            "parameter shared_memory_region is not supported",
        ),
        (
            {"spend": tensor("spend", [10.0], "FP32", parameters={"binary_data_size": 4})},
            "has both data and binary_data_size",
        ),
    ],
)
def test_a_tensor_that_its_datatype_or_column_does_not_allow_is_refused(client, changed, message):
    """The refusal names the input, the value and the rule."""
    answer = ask(client, changed=changed)
    assert answer.status_code == 400
    assert message in answer.json()["error"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"outputs": [{"name": "probability"}]}, "output probability does not exist; the model has prediction"),
        ({"outputs": [{"name": "prediction"}] * 2}, "output prediction is given twice"),
        ({"outputs": [{}]}, "each output must be an object with a name"),
        ({"outputs": {"name": "prediction"}}, "outputs must be a list"),
        ({"outputs": [{"name": "prediction", "parameters": {"binary_data": "yes"}}]}, "must be true or false"),
        ({"outputs": [{"name": "prediction", "parameters": {"classification": 3}}]}, "classification is not supported"),
        ({"parameters": {"binary_data_output": 1}}, "the request: binary_data_output must be true or false"),
        ({"parameters": {"content_type": "hf"}}, "the request: content_type must be one of np, pd"),
        ({"id": 7}, "id must be text"),
    ],
)
def test_an_output_that_cannot_be_given_is_refused(client, more, message):
    """An output that the model lacks, parameters that would ask for other data, an id that is no text."""
    answer = ask(client, **more)
    assert answer.status_code == 400
    assert message in answer.json()["error"]


@pytest.mark.parametrize(
    ("of_request", "of_output", "binary"),
    [(None, None, False), (True, None, True), (True, False, False), (False, True, True), (None, True, True)],
)
def test_an_outputs_own_choice_of_binary_goes_before_the_requests(client, expected, of_request, of_output, binary):
    """binary_data of the output decides; without it binary_data_output of the request."""
    output = {"name": "prediction"} | ({} if of_output is None else {"parameters": {"binary_data": of_output}})
    more = {} if of_request is None else {"parameters": {"binary_data_output": of_request}}
    answer = ask(client, outputs=[output], id="42", **more)
    length = answer.headers.get("inference-header-content-length")
    assert (length is not None) is binary
    head = json.loads(answer.content[: int(length)] if binary else answer.content)
    assert (head["id"], head["model_version"]) == ("42", "3")
    data = list(struct.unpack("<d", answer.content[int(length) :])) if binary else head["outputs"][0]["data"]
    assert data == expected


@pytest.mark.parametrize("length", ["9" * 5000, "0" * 5000, "-1", "+1", "1_0", "0x10", "1e1", "", "1 0", "\u0661"])
def test_a_length_of_the_json_that_is_no_whole_number_is_refused(client, length):
    """Also one with more digits than Python's int() takes."""
    body = json.dumps({"inputs": inputs()}).encode()
    answer = client.post(INFER, content=body, headers={"inference-header-content-length": length.encode()})
    assert (answer.status_code, "inference-header-content-length" in answer.json()["error"]) == (400, True)


def test_a_length_of_the_body_with_thousands_of_zeros_is_a_length(client):
    """An HTTP parser takes it, so the server does too."""
    body = json.dumps({"inputs": inputs()}).encode()
    length = str(len(body)).rjust(5000, "0")
    assert client.post(INFER, content=body, headers={"content-length": length}).status_code == 200


def test_ready_config_and_repository_answer_as_triton_describes_them(client):
    """A model's readiness has its name; what `/v2` lists as extensions is there, and no model can be loaded or unloaded."""
    for path in ("/v2/models/churn", "/v2/models/churn/versions/3"):
        assert client.get(f"{path}/ready").json() == {"name": "churn", "ready": True}
        assert client.get(f"{path}/config").json() == {
            "name": "churn",
            "platform": client.get(path).json()["platform"],
            "max_batch_size": 0,
            "input": [
                {"name": "spend", "data_type": "TYPE_FP32", "dims": [-1, 1]},
                {"name": "calls", "data_type": "TYPE_FP32", "dims": [-1, 1]},
                {"name": "plan", "data_type": "TYPE_STRING", "dims": [-1, 1]},
            ],
            "output": [{"name": "prediction", "data_type": "TYPE_FP64", "dims": [-1]}],
        }
    assert client.get("/v2/models/churn/versions/4/ready").status_code == 404
    assert client.get("/v2").json()["extensions"] == ["binary_tensor_data", "model_configuration", "model_repository"]
    for body in (b"", b'{"ready": true}'):
        index = client.post("/v2/repository/index", content=body)
        assert index.json() == [{"name": "churn", "version": "3", "state": "READY", "reason": ""}]
    for verb in ("load", "unload"):
        refused = client.post(f"/v2/repository/models/churn/{verb}")
        assert (refused.status_code, list(refused.json())) == (400, ["error"])
