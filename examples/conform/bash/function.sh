# The conform function in bash: what `lambfold conform` asks a function for. See docs/conform.md.
# Without jq: the kit's events are simple enough for patterns, and all others are echoed.
# shellcheck shell=bash

if [[ ${LAMBFOLD_CONFORM_INIT:-} == error ]]; then
  echo 'cannot be loaded, as asked' >&2
  return 1
fi

# Prints the number at a key of the event. Arguments: event, key.
number() {
  local rest=${1#*\""$2"\":}
  printf '%s' "${rest%%[^0-9]*}"
}

# Prints a text as JSON.
quoted() {
  local text=$1
  text=${text//\\/\\\\}
  text=${text//\"/\\\"}
  printf '"%s"' "$text"
}

# The same, or null where there is none.
told() {
  if [[ -n ${1:-} ]]; then quoted "$1"; else printf null; fi
}

handler() {
  case ${1:0:64} in
    *'"conform":"error"'*)
      local message=${1#*\"message\":\"}
      message=${message%\"*}
      # The escapes of JSON that the kit uses are those of printf.
      printf -v message '%b' "${message//\\\"/\"}"
      lambda_error Function.Asked "$message"
      ;;
    *'"conform":"exit"'*) kill -KILL "$BASHPID" ;;
    *'"conform":"size"'*)
      local size
      size=$(number "$1" bytes)
      printf '"'
      head -c $((size - 2)) /dev/zero | tr '\0' x
      printf '"'
      ;;
    *'"conform":"sleep"'*)
      local ms
      ms=$(number "$1" ms)
      echo 'conform: asleep' >&2
      sleep "$((ms / 1000)).$(printf '%03d' $((ms % 1000)))"
      printf '{"slept":%d}' "$ms"
      ;;
    *'"conform":"log"'*)
      local text=${1#*\"reversed\":\"} at line=''
      text=${text%%\"*}
      for ((at = ${#text} - 1; at >= 0; at--)); do line+=${text:at:1}; done
      echo "$line" >&2
      printf '{"logged":true}'
      ;;
    *'"conform":"context"'*)
      printf '{"requestId":%s,"deadlineMs":%s,"invokedFunctionArn":%s,"traceId":%s,' \
        "$(told "$AWS_LAMBDA_REQUEST_ID")" "$AWS_LAMBDA_DEADLINE_MS" \
        "$(told "$AWS_LAMBDA_FUNCTION_ARN")" "$(told "${_X_AMZN_TRACE_ID:-}")"
      printf '"clientContext":%s,"cognitoIdentity":%s,"tenantId":%s,"variable":%s}' \
        "${AWS_LAMBDA_CLIENT_CONTEXT:-null}" "${AWS_LAMBDA_COGNITO_IDENTITY:-null}" \
        "$(told "${AWS_LAMBDA_TENANT_ID:-}")" "$(told "${LAMBFOLD_CONFORM_VARIABLE:-}")"
      ;;
    *'"conform":"stream"'*)
      local parts=${1#*\"parts\":[} delay part first=yes
      parts=${parts%%]*}
      delay=$(number "$1" delayMs)
      lambda_stream text/plain
      while [[ $parts == \"* ]]; do
        [[ -n $first ]] || sleep "$((delay / 1000)).$(printf '%03d' $((delay % 1000)))"
        first=
        part=${parts#\"}
        printf '%s' "${part%%\"*}"
        parts=${part#*\"}
        parts=${parts#,}
      done
      if [[ $1 == *'"then":"error"'* ]]; then lambda_error Function.Asked 'in the middle'; fi
      ;;
    # What is no object may have NUL bytes, which a variable of bash cannot hold.
    '{'*) printf '%s' "$1" ;;
    *) cat ;;
  esac
}
