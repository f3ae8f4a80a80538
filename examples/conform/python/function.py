"""The conform function for awslambdaric: what `lambfold conform` asks a function for.

See docs/conform.md.
"""

import os
import sys
import time

if os.environ.get("LAMBFOLD_CONFORM_INIT") == "error":
    raise RuntimeError("cannot be loaded, as asked")


def client(context):
    told = context.client_context
    return told and {"custom": told.custom, "env": told.env}


def identity(context):
    told = context.identity
    return told and {
        "cognitoIdentityId": told.cognito_identity_id,
        "cognitoIdentityPoolId": told.cognito_identity_pool_id,
    }


def handler(event, context):
    word = event.get("conform") if isinstance(event, dict) else None
    if word == "error":
        raise RuntimeError(event["message"])
    if word == "exit":
        os._exit(event["code"])
    if word == "size":
        return "x" * (event["bytes"] - 2)
    if word == "sleep":
        print("conform: asleep", file=sys.stderr, flush=True)
        time.sleep(event["ms"] / 1000)
        return {"slept": event["ms"]}
    if word == "log":
        print(event["reversed"][::-1])
        return {"logged": True}
    if word == "context":
        return {
            "requestId": context.aws_request_id,
            "remainingMs": context.get_remaining_time_in_millis(),
            "invokedFunctionArn": context.invoked_function_arn,
            "traceId": os.environ.get("_X_AMZN_TRACE_ID"),
            "clientContext": client(context),
            "cognitoIdentity": identity(context),
            "tenantId": context.tenant_id,
            "variable": os.environ.get("LAMBFOLD_CONFORM_VARIABLE"),
        }
    return event
