"""One invocation through unmodified boto3, told as JSON: invoke.py ENDPOINT FUNCTION EVENT [TYPE]."""

import base64
import json
import sys

import boto3
import botocore.config
import botocore.exceptions

endpoint, function, event = sys.argv[1:4]
kind = sys.argv[4] if len(sys.argv) > 4 else "RequestResponse"

# no retries: each answer counts
config = botocore.config.Config(retries={"total_max_attempts": 1}, read_timeout=60)
aws = boto3.client("lambda", endpoint_url=endpoint, region_name="us-east-1", config=config,
                   aws_access_key_id="any", aws_secret_access_key="any")
more = {"LogType": "Tail"} if kind == "RequestResponse" else {}
try:
    answer = aws.invoke(FunctionName=function, Payload=event, InvocationType=kind, **more)
    told = {
        "status": answer["StatusCode"],
        "error": answer.get("FunctionError"),
        "payload": answer["Payload"].read().decode(),
        "log": base64.b64decode(answer.get("LogResult", "")).decode(),
        "id": answer["ResponseMetadata"]["RequestId"],
    }
except botocore.exceptions.ClientError as error:
    told = {
        "status": error.response["ResponseMetadata"]["HTTPStatusCode"],
        "exception": error.response["Error"]["Code"],
        "message": error.response["Error"]["Message"],
        "reason": error.response.get("Reason"),
    }
print(json.dumps(told))
