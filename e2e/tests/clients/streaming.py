"""InvokeWithResponseStream through unmodified boto3.

The function `f` is a bootstrap on the crate lambda_runtime; its reserved concurrency is 1.
"""

import base64
import json
import sys

import boto3
import botocore.config
import botocore.exceptions

ENDPOINT = sys.argv[1]

# no retries: a throttle is what is asked for
config = botocore.config.Config(retries={"total_max_attempts": 1})
aws = boto3.client("lambda", endpoint_url=ENDPOINT, region_name="us-east-1", config=config,
                   aws_access_key_id="any", aws_secret_access_key="any")


def begin(name, event, **more):
    answer = aws.invoke_with_response_stream(
        FunctionName=name, Payload=json.dumps(event), **more)
    assert answer["StatusCode"] == 200, answer
    assert answer["ExecutedVersion"] == "$LATEST", answer
    return iter(answer["EventStream"])


def rest(events, payload=b""):
    for event in events:
        if "InvokeComplete" in event:
            assert next(events, None) is None, "something comes after the end"
            return payload, event["InvokeComplete"]
        payload += event["PayloadChunk"]["Payload"]
    raise AssertionError("no InvokeComplete")


def body(payload):
    """What follows the prelude for function URLs that lambda_runtime sends."""
    prelude, text = payload.split(b"\0" * 8, 1)
    assert json.loads(prelude)["statusCode"] == 200, prelude
    return text.decode()


def is_throttled():
    try:
        aws.invoke(FunctionName="f", Payload="{}")
    except botocore.exceptions.ClientError as error:
        assert error.response["Error"]["Code"] == "TooManyRequestsException", error
        return True
    return False


# The first chunk is here while the function runs: it holds the only place that there is.
events = begin("f", {"chunks": ["first"], "then": "wait"})
payload = b""
while not payload.endswith(b"first"):
    payload += next(events)["PayloadChunk"]["Payload"]
assert is_throttled()
payload, end = rest(events, payload)
assert body(payload) == "first", payload
assert end["ErrorCode"] == "Sandbox.Timeout", end
assert json.loads(end["ErrorDetails"])["errorType"] == "Sandbox.Timedout", end
assert "LogResult" not in end, end

payload, end = rest(begin("f", {"chunks": ["one", "two"]}, LogType="Tail"))
assert body(payload) == "onetwo", payload
log = base64.b64decode(end.pop("LogResult")).decode()
assert "START RequestId" in log and "REPORT RequestId" in log, log
assert end == {}, end

payload, end = rest(begin("f", {"chunks": ["part"], "then": "fail"}))
assert body(payload) == "part", payload
assert end["ErrorCode"] == "Runtime.StreamError", end
assert "in the middle" in end["ErrorDetails"], end

payload, end = rest(begin("f", {"chunks": ["part"], "then": "exit"}))
# It may die before its first byte is on its way.
assert end["ErrorCode"] in ("Sandbox.Failure", "Unhandled"), (payload, end)
assert json.loads(end["ErrorDetails"])["errorType"] == "Runtime.ExitError", end

payload, end = rest(begin("f", {"then": "error"}))
assert (payload, end["ErrorCode"]) == (b"", "Unhandled"), (payload, end)
assert json.loads(end["ErrorDetails"])["errorMessage"] == "before the first byte", end

# A response that is not streamed is one chunk.
payload, end = rest(begin("echo", {"x": 1}))
assert (json.loads(payload)["event"], end) == ({"x": 1}, {}), (payload, end)

# A response larger than a whole one may be.
size = 7 << 20
payload, end = rest(begin("f", {"chunks": ["a" * 65536], "times": size >> 16}))
assert (len(body(payload)), end) == (size, {}), (len(payload), end)

# Whoever does not stream gets a streamed response whole.
answer = aws.invoke(FunctionName="f", Payload=json.dumps({"chunks": ["one", "two"]}))
assert body(answer["Payload"].read()) == "onetwo" and "FunctionError" not in answer, answer

answer = aws.invoke_with_response_stream(FunctionName="f", InvocationType="DryRun")
assert answer["StatusCode"] == 204, answer

# A caller who goes does not hold the function up: it sends the rest faster than anybody could
# have got it, and ends.
event = {"chunks": ["a" * 65536], "times": 512}
answer = aws.invoke_with_response_stream(FunctionName="f", Payload=json.dumps(event))
next(iter(answer["EventStream"]))
answer["EventStream"].close()
while is_throttled():
    pass
logs = boto3.client("logs", endpoint_url=ENDPOINT, region_name="us-east-1",
                    aws_access_key_id="any", aws_secret_access_key="any")
lines = logs.filter_log_events(logGroupName="/aws/lambda/f")["events"]
timeouts = [line["message"] for line in lines if "timed out" in line["message"]]
assert len(timeouts) == 1, timeouts

try:
    aws.invoke_with_response_stream(FunctionName="nobody")
    raise AssertionError("there is no such function")
except aws.exceptions.ResourceNotFoundException:
    pass
