"""The control plane through unmodified boto3: what a deployment tool does, and what it reads back."""

import io
import json
import sys
import urllib.request
import zipfile

import boto3
import botocore.config

ENDPOINT, REGION = sys.argv[1], sys.argv[2]
PARTITION = "aws-cn" if REGION.startswith("cn-") else "aws"
ACCOUNT = "000000000000"


def client(name="lambda"):
    # its own validation would keep from the server what the server must refuse
    config = botocore.config.Config(parameter_validation=False)
    return boto3.client(name, endpoint_url=ENDPOINT, region_name=REGION, config=config,
                        aws_access_key_id="any", aws_secret_access_key="any")


def zipped(**files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            info = zipfile.ZipInfo(name.replace("_sh", ".sh"))
            info.external_attr = 0o100755 << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, text)
    return out.getvalue()


BOOTSTRAP = """#!/bin/sh
set -euo pipefail
source "$LAMBDA_TASK_ROOT/$(echo "$_HANDLER" | cut -d. -f1).sh"
while true; do
  headers=$(mktemp)
  event=$(curl -sS -LD "$headers" "http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation/next")
  id=$(grep -Fi Lambda-Runtime-Aws-Request-Id "$headers" | tr -d '[:space:]' | cut -d: -f2)
  answer=$($(echo "$_HANDLER" | cut -d. -f2) "$event")
  curl -sS -X POST "http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation/$id/response" -d "$answer" > /dev/null
done
"""
FUNCTION = 'function handler () { echo "{\\"got\\": $1, \\"greeting\\": \\"%s\\"}"; }\n'

aws = client()


def fails(code, status, call, **arguments):
    try:
        call(**arguments)
    except aws.exceptions.ClientError as error:
        response = error.response
        assert response["Error"]["Code"] == code, response
        assert response["ResponseMetadata"]["HTTPStatusCode"] == status, response
        return response["Error"]["Message"]
    raise AssertionError(f"{call.__name__} did not fail with {code}")


def invoke(name, event, **more):
    answer = aws.invoke(FunctionName=name, Payload=json.dumps(event), **more)
    return answer, answer["Payload"].read()


code = zipped(bootstrap=BOOTSTRAP, function_sh=FUNCTION % "one")
role = f"arn:{PARTITION}:iam::{ACCOUNT}:role/r"
arn = f"arn:{PARTITION}:lambda:{REGION}:{ACCOUNT}:function:f"

# create, and every way to read it
created = aws.create_function(FunctionName="f", Runtime="provided.al2023", Role=role, Handler="function.handler",
                              Code={"ZipFile": code}, Description="first", Tags={"team": "a"},
                              Environment={"Variables": {"KEY": "value"}}, MemorySize=256, Timeout=10)
assert created["ResponseMetadata"]["HTTPStatusCode"] == 201
assert created["FunctionArn"] == arn, created
assert created["Version"] == "$LATEST" and created["CodeSize"] == len(code), created
aws.get_waiter("function_active_v2").wait(FunctionName="f")
configuration = aws.get_function_configuration(FunctionName=arn)
assert configuration["State"] == "Active" and configuration["LastUpdateStatus"] == "Successful", configuration
assert configuration["MemorySize"] == 256 and configuration["Environment"] == {"Variables": {"KEY": "value"}}
function = aws.get_function(FunctionName=f"{ACCOUNT}:function:f")
assert function["Tags"] == {"team": "a"}, function
assert function["Code"]["RepositoryType"] == "S3", function
assert urllib.request.urlopen(function["Code"]["Location"]).read() == code, "the very zip"
message = fails("ResourceConflictException", 409, aws.create_function, FunctionName="f", Runtime="provided.al2023",
                Role=role, Handler="function.handler", Code={"ZipFile": code})
assert message == "Function already exist: f", message
message = fails("ResourceNotFoundException", 404, aws.get_function, FunctionName="nobody")
assert message == f"Function not found: arn:{PARTITION}:lambda:{REGION}:{ACCOUNT}:function:nobody", message

# invoke: names, partial and full ARNs, qualifiers
for name in ["f", arn, f"{ACCOUNT}:function:f", "f:$LATEST"]:
    answer, payload = invoke(name, {"x": 1})
    assert json.loads(payload) == {"got": {"x": 1}, "greeting": "one"}, payload
    assert answer["ExecutedVersion"] == "$LATEST" and "FunctionError" not in answer, answer
assert invoke("f", {}, InvocationType="DryRun")[0]["StatusCode"] == 204
assert invoke("f", {}, InvocationType="Event")[0]["StatusCode"] == 202
message = fails("ResourceNotFoundException", 404, aws.invoke, FunctionName="nobody")
assert message == f"Function not found: arn:{PARTITION}:lambda:{REGION}:{ACCOUNT}:function:nobody:$LATEST", message
fails("InvalidRequestContentException", 400, aws.invoke, FunctionName="f", Payload=b"not json")

# versions: immutable, and the same code is the same version
first = aws.publish_version(FunctionName="f")
assert first["Version"] == "1" and first["FunctionArn"] == arn + ":1", first
assert aws.publish_version(FunctionName="f")["Version"] == "1"
updated = aws.update_function_code(FunctionName="f", ZipFile=zipped(bootstrap=BOOTSTRAP, function_sh=FUNCTION % "two"))
assert updated["CodeSha256"] != created["CodeSha256"] and updated["RevisionId"] != configuration["RevisionId"]
aws.get_waiter("function_updated_v2").wait(FunctionName="f")
assert json.loads(invoke("f", 5)[1]) == {"got": 5, "greeting": "two"}
answer, payload = invoke("f", 5, Qualifier="1")
assert json.loads(payload) == {"got": 5, "greeting": "one"} and answer["ExecutedVersion"] == "1", payload
second = aws.update_function_configuration(FunctionName="f", Description="second", Timeout=20)
assert second["Description"] == "second" and second["Timeout"] == 20 and second["MemorySize"] == 256, second
fails("PreconditionFailedException", 412, aws.update_function_configuration, FunctionName="f", RevisionId=first["RevisionId"])
assert aws.publish_version(FunctionName="f", Description="v2")["Version"] == "2"
versions = aws.list_versions_by_function(FunctionName="f")["Versions"]
assert [v["Version"] for v in versions] == ["$LATEST", "1", "2"], versions

# layers
runtime = zipped(bootstrap=BOOTSTRAP)
layer = aws.publish_layer_version(LayerName="bash", Content={"ZipFile": runtime}, CompatibleRuntimes=["provided.al2023"])
assert layer["LayerVersionArn"] == f"arn:{PARTITION}:lambda:{REGION}:{ACCOUNT}:layer:bash:1", layer
assert layer["Content"]["CodeSize"] == len(runtime)
found = aws.get_layer_version(LayerName="bash", VersionNumber=1)
assert urllib.request.urlopen(found["Content"]["Location"]).read() == runtime
assert aws.get_layer_version_by_arn(Arn=layer["LayerVersionArn"])["Version"] == 1
assert aws.publish_layer_version(LayerName="bash", Content={"ZipFile": runtime})["Version"] == 2
assert [v["Version"] for v in aws.list_layer_versions(LayerName="bash")["LayerVersions"]] == [2, 1]
assert aws.list_layers()["Layers"][0]["LatestMatchingVersion"]["Version"] == 2
for name, greeting in [("a", "from a"), ("b", "from b")]:
    aws.create_function(FunctionName=name, Runtime="provided.al2023", Role=role, Handler="function.handler",
                        Code={"ZipFile": zipped(function_sh=FUNCTION % greeting)}, Layers=[layer["LayerVersionArn"]])
    assert json.loads(invoke(name, 1)[1]) == {"got": 1, "greeting": greeting}
aws.delete_layer_version(LayerName="bash", VersionNumber=1)
fails("ResourceNotFoundException", 404, aws.get_layer_version, LayerName="bash", VersionNumber=1)
assert json.loads(invoke("a", 2)[1]) == {"got": 2, "greeting": "from a"}, "a deleted layer version goes on working"
message = fails("InvalidParameterValueException", 400, aws.update_function_configuration, FunctionName="f",
                Layers=[f"arn:{PARTITION}:lambda:{REGION}:{ACCOUNT}:layer:none:1"])
assert message == f"Layer version arn:{PARTITION}:lambda:{REGION}:{ACCOUNT}:layer:none:1 does not exist.", message

# tags, account, listing by pages
aws.tag_resource(Resource=arn, Tags={"stage": "test"})
assert aws.list_tags(Resource=arn)["Tags"] == {"team": "a", "stage": "test"}
aws.untag_resource(Resource=arn, TagKeys=["team"])
assert aws.list_tags(Resource=arn)["Tags"] == {"stage": "test"}
account = aws.get_account_settings()
assert account["AccountUsage"]["FunctionCount"] == 3, account
pages = list(aws.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 1}))
assert sorted(f["FunctionName"] for page in pages for f in page["Functions"]) == ["a", "b", "f"], pages

# what is refused, and what is not built
message = fails("ValidationException", 400, aws.update_function_configuration, FunctionName="f", MemorySize=1)
assert "Value '1' at 'memorySize' failed to satisfy constraint: Member must have value greater than or equal to 128" in message, message
message = fails("InvalidParameterValueException", 400, aws.update_function_configuration, FunctionName="f",
                Environment={"Variables": {"AWS_REGION": "x"}})
assert "AWS_REGION" in message, message
fails("InvalidParameterValueException", 400, aws.create_function, FunctionName="bad", Runtime="provided.al2023", Role=role,
      Handler="h", Code={"ZipFile": b"not a zip"})
message = fails("NotImplementedException", 501, client().create_event_source_mapping, FunctionName="f",
                EventSourceArn="arn:aws:sqs:us-east-1:000000000000:q")
assert "CreateEventSourceMapping" in message, message

# another region is another world
if REGION == "us-east-1":
    other = boto3.client("lambda", endpoint_url=ENDPOINT, region_name="eu-central-1",
                         aws_access_key_id="any", aws_secret_access_key="any")
    assert other.list_functions()["Functions"] == []
assert client("sts").get_caller_identity()["Account"] == ACCOUNT
streams = client("logs").describe_log_streams(logGroupName="/aws/lambda/f")["logStreams"]
assert streams, "the function's log streams"

# delete
aws.delete_function(FunctionName="f", Qualifier="1")
fails("ResourceNotFoundException", 404, aws.invoke, FunctionName="f", Qualifier="1")
aws.delete_function(FunctionName="f")
fails("ResourceNotFoundException", 404, aws.get_function, FunctionName="f")
print(f"control plane: all right with boto3 {boto3.__version__}, botocore {botocore.__version__}")
