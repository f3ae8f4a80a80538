#!/usr/bin/env python3
"""A custom runtime in Python, on nothing but the standard library."""

import http.client
import json
import os
import sys

API = "/2018-06-01/runtime"


def handler(event):
    if not isinstance(event, str):
        raise TypeError("the event is not a string")
    return {"hello": event}


def main():
    # No time limit: the platform may freeze this process while it waits.
    connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"], timeout=None)

    def call(method, path, body=None, headers={}):
        connection.request(method, API + path, body, headers)
        reply = connection.getresponse()
        content = reply.read()
        if reply.status == 413:
            # The answer was too large; the caller has been told.
            print("the platform refused the answer:", content, file=sys.stderr)
        elif reply.status >= 300:
            sys.exit(f"the Runtime API said {reply.status} to {path}: {content!r}")
        return reply.headers, content

    while True:
        headers, event = call("GET", "/invocation/next")
        request_id = headers["Lambda-Runtime-Aws-Request-Id"]
        try:
            answer = json.dumps(handler(json.loads(event)))
        except Exception as error:
            name = type(error).__name__
            document = {"errorMessage": str(error), "errorType": name, "stackTrace": []}
            call(
                "POST",
                f"/invocation/{request_id}/error",
                json.dumps(document),
                {"Lambda-Runtime-Function-Error-Type": f"Function.{name}"},
            )
        else:
            call("POST", f"/invocation/{request_id}/response", answer)


main()
