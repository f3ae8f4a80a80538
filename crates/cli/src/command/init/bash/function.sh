# The handler is function.handler: this file, and the function below. bash reads the file once;
# then the function is called for each event.

greeting='Hello'

# The event is $1 (and standard input), what is printed is the answer, standard error is the log.
handler() {
    local name='world'
    if [[ $1 =~ \"name\":\ *\"([^\"\\]+)\" ]]; then
        name=${BASH_REMATCH[1]}
    fi
    echo "an event of ${#1} characters" >&2
    printf '{"message": "%s, %s!"}\n' "$greeting" "$name"
}
