"""Aliases, reserved and provisioned concurrency through unmodified boto3."""

import collections
import concurrent.futures
import io
import itertools
import json
import pathlib
import sys
import time
import zipfile

import boto3
import botocore.config

ENDPOINT, REGION = sys.argv[1], sys.argv[2]
# where the server keeps the code of functions
TREES = pathlib.Path(sys.argv[3])

# no retries: a throttle is what is asked for
config = botocore.config.Config(retries={"total_max_attempts": 1}, max_pool_connections=20)
aws = boto3.client("lambda", endpoint_url=ENDPOINT, region_name=REGION, config=config,
                   aws_access_key_id="any", aws_secret_access_key="any")

BOOTSTRAP = """#!/bin/sh
while true; do
  headers=$(mktemp)
  event=$(curl -sS -LD "$headers" "http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation/next")
  id=$(grep -Fi Lambda-Runtime-Aws-Request-Id "$headers" | tr -d '[:space:]' | cut -d: -f2)
  case "$event" in *hold*) until [ -e /var/task/open ]; do sleep 0.1; done ;; esac
  answer="{\\"version\\": \\"$AWS_LAMBDA_FUNCTION_VERSION\\", \\"type\\": \\"$AWS_LAMBDA_INITIALIZATION_TYPE\\"}"
  curl -sS -X POST "http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation/$id/response" -d "$answer" > /dev/null
done
"""


def zipped(text):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo("bootstrap")
        info.external_attr = 0o100755 << 16
        archive.writestr(info, text)
    return out.getvalue()


def fails(exception, call, **arguments):
    try:
        call(**arguments)
    except exception as error:
        return error.response
    raise AssertionError(f"{call.__name__} did not fail")


def invoke(qualifier=None, event=None):
    more = {"Qualifier": qualifier} if qualifier else {}
    answer = aws.invoke(FunctionName="f", Payload=json.dumps(event), **more)
    return answer["ExecutedVersion"], json.loads(answer["Payload"].read())


created = aws.create_function(FunctionName="f", Runtime="provided.al2023", Role="arn:aws:iam::000000000000:role/r",
                              Handler="h", Code={"ZipFile": zipped(BOOTSTRAP)}, Timeout=30)
arn = created["FunctionArn"]
aws.get_waiter("function_active_v2").wait(FunctionName="f")
for description in ["one", "two"]:
    aws.update_function_configuration(FunctionName="f", Description=description)
    aws.get_waiter("function_updated_v2").wait(FunctionName="f")
    aws.publish_version(FunctionName="f")

# an alias, moved and divided
alias = aws.create_alias(FunctionName="f", Name="live", FunctionVersion="1", Description="all")
assert alias["AliasArn"] == arn + ":live" and "RoutingConfig" not in alias, alias
assert aws.get_alias(FunctionName="f", Name="live")["RevisionId"] == alias["RevisionId"]
assert invoke("live") == ("1", {"version": "1", "type": "on-demand"})
response = fails(aws.exceptions.PreconditionFailedException, aws.update_alias, FunctionName="f", Name="live",
                 RevisionId="00000000-0000-0000-0000-000000000000")
assert "GetAlias" in response["Error"]["Message"], response
divided = aws.update_alias(FunctionName="f", Name="live", RevisionId=alias["RevisionId"],
                           RoutingConfig={"AdditionalVersionWeights": {"2": 0.5}})
assert divided["RoutingConfig"] == {"AdditionalVersionWeights": {"2": 0.5}}, divided
counts = collections.Counter(invoke("live")[0] for _ in range(60))
assert set(counts) == {"1", "2"}, counts
aws.create_alias(FunctionName="f", Name="edge", FunctionVersion="$LATEST")
pages = aws.get_paginator("list_aliases").paginate(FunctionName="f", PaginationConfig={"PageSize": 1})
assert [a["Name"] for page in pages for a in page["Aliases"]] == ["edge", "live"]
fails(aws.exceptions.ResourceConflictException, aws.delete_function, FunctionName="f", Qualifier="2")
aws.update_alias(FunctionName="f", Name="live", RoutingConfig={})
assert {invoke("live")[0] for _ in range(10)} == {"1"}

# provisioned concurrency of the alias
response = fails(aws.exceptions.ProvisionedConcurrencyConfigNotFoundException,
                 aws.get_provisioned_concurrency_config, FunctionName="f", Qualifier="live")
assert response["ResponseMetadata"]["HTTPStatusCode"] == 404, response
asked = aws.put_provisioned_concurrency_config(FunctionName="f", Qualifier="live", ProvisionedConcurrentExecutions=2)
assert asked["ResponseMetadata"]["HTTPStatusCode"] == 202 and asked["Status"] == "IN_PROGRESS", asked
end = time.monotonic() + 60
while (now := aws.get_provisioned_concurrency_config(FunctionName="f", Qualifier="live"))["Status"] != "READY":
    assert time.monotonic() < end, now
assert now["AllocatedProvisionedConcurrentExecutions"] == 2, now
assert invoke("live") == ("1", {"version": "1", "type": "provisioned-concurrency"})
configs = aws.list_provisioned_concurrency_configs(FunctionName="f")["ProvisionedConcurrencyConfigs"]
assert [c["FunctionArn"] for c in configs] == [arn + ":live"], configs
account = aws.get_account_settings()["AccountLimit"]
assert account["ConcurrentExecutions"] - account["UnreservedConcurrentExecutions"] == 2, account

# reserved concurrency, with and without what is provisioned
response = fails(aws.exceptions.InvalidParameterValueException, aws.put_function_concurrency, FunctionName="f",
                 ReservedConcurrentExecutions=1)
assert "total provisioned concurrency [2]" in response["Error"]["Message"], response
assert aws.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=2)["ReservedConcurrentExecutions"] == 2
response = fails(aws.exceptions.TooManyRequestsException, aws.invoke, FunctionName="f")
assert response["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded", response
assert response["ResponseMetadata"]["HTTPStatusCode"] == 429, response
aws.delete_provisioned_concurrency_config(FunctionName="f", Qualifier="live")
assert aws.get_function(FunctionName="f")["Concurrency"] == {"ReservedConcurrentExecutions": 2}


def status(_):
    try:
        return invoke(event="hold")[0]
    except aws.exceptions.TooManyRequestsException as error:
        return error.response["Reason"]


with concurrent.futures.ThreadPoolExecutor(6) as threads:
    answers = [threads.submit(status, n) for n in range(6)]
    # two are held for as long as it takes to refuse the others
    first = itertools.islice(concurrent.futures.as_completed(answers), 4)
    refused = [answer.result() for answer in first]
    assert set(refused) == {"ReservedFunctionConcurrentInvocationLimitExceeded"}, refused
    for tree in TREES.iterdir():
        (tree / "open").touch()
    statuses = collections.Counter(answer.result() for answer in answers)
assert statuses == {"$LATEST": 2, "ReservedFunctionConcurrentInvocationLimitExceeded": 4}, statuses
aws.delete_function_concurrency(FunctionName="f")
assert "ReservedConcurrentExecutions" not in aws.get_function_concurrency(FunctionName="f")
assert invoke()[0] == "$LATEST"
aws.delete_alias(FunctionName="f", Name="live")
fails(aws.exceptions.ResourceNotFoundException, aws.invoke, FunctionName="f", Qualifier="live")
aws.delete_function(FunctionName="f")
print("concurrency: all right with boto3", boto3.__version__)
