# The function of lab 1: sends the event back.

function handler () {
  local event="${1:-null}"
  # Standard error is the log; standard output is the response.
  echo "the event has ${#event} characters" >&2
  echo "{\"from\": \"bash ${BASH_VERSION%%.*}\", \"echo\": $event}"
}
