"""Reads the first words of functions that run on, and asks whether they do."""

import json
import sys

import boto3
import botocore.config
import botocore.exceptions

config = botocore.config.Config(retries={"total_max_attempts": 1})
aws = boto3.client("lambda", endpoint_url=sys.argv[1], region_name="us-east-1", config=config,
                   aws_access_key_id="any", aws_secret_access_key="any")

EVENT = json.dumps({
    "version": "2.0", "rawPath": "/", "rawQueryString": "", "headers": {},
    "requestContext": {"http": {"method": "GET", "path": "/", "sourceIp": "203.0.113.9"}},
    "isBase64Encoded": False,
})

for name in sys.argv[2:]:
    aws.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    answer = aws.invoke_with_response_stream(FunctionName=name, Payload=EVENT)
    events, payload = iter(answer["EventStream"]), b""
    while b"first" not in payload:
        payload += next(events)["PayloadChunk"]["Payload"]
    # It holds the only place that there is.
    try:
        aws.invoke(FunctionName=name, Payload=EVENT)
        raise AssertionError(f"{name} does not run any more")
    except aws.exceptions.TooManyRequestsException:
        pass
    *chunks, last = events
    assert not chunks, chunks
    assert last["InvokeComplete"]["ErrorCode"].endswith(".Timeout"), last
