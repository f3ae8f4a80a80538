#!/usr/bin/env bash
# The runtime that everybody writes first: curl, mktemp, grep and friends for each event. What the
# bash runtime is measured against.
api=http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime
source "$LAMBDA_TASK_ROOT/${_HANDLER%%.*}.sh"
while :; do
    headers=$(mktemp)
    event=$(curl -sS -L -D "$headers" "$api/invocation/next") || exit 1
    id=$(grep -Fi Lambda-Runtime-Aws-Request-Id "$headers" | tr -d '[:space:]' | cut -d: -f2)
    answer=$("${_HANDLER#*.}" "$event")
    curl -sS -o /dev/null -d "$answer" "$api/invocation/$id/response"
    rm -f "$headers"
done
