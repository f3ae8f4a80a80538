# The first function of lab 2: greets by name. The runtime comes from the layer.

function handler () {
  local name
  # The text between the quotes, escapes and all, so that it can be put into JSON as it is.
  name="$(printf '%s' "$1" | tr -d '\n' \
    | sed -nE 's/.*"name"[[:space:]]*:[[:space:]]*"(([^"\\]|\\.)*)".*/\1/p')"
  echo "{\"greeting\": \"Hello, ${name:-world}!\"}"
}
