# The second function of lab 2: measures the event. The runtime comes from the layer.

function handler () {
  local bytes words
  bytes="$(printf '%s' "$1" | wc -c)"
  words="$(printf '%s' "$1" | wc -w)"
  echo "measured $bytes bytes" >&2
  echo "{\"bytes\": $bytes, \"words\": $words}"
}
