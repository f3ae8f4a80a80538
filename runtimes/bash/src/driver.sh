# The bash side of the runtime. The bootstrap puts assignments before this text and has bash source
# the whole; what begins with __lambfold_ is private, what begins with lambda_ is for handlers.
#
#   __lambfold_mode       isolate (a subshell per event), persist (this shell), script (one script)
#   __lambfold_reports    messages to the bootstrap; __lambfold_commands: the number of an event
#   __lambfold_context    a file with the fields of the event of that number
#   __lambfold_other_reports, __lambfold_other_commands, __lambfold_other_context  of the second lane
#   __lambfold_stdin, __lambfold_stdout  of the first event, for a shell that stays
#
# Pipes and files have names in /proc/<bootstrap>/fd; what is opened is closed at once, so that nothing
# a handler starts inherits one.
#
# Opening is dear, though. What every event needs lies open where bash puts aside what a redirection
# replaces, above 10, which it closes in whatever it starts: see __lambfold_begin.
#
# Builtins are called as such: a handler file may define functions of their names. (Not `exec`, whose
# redirections `builtin` would undo.) As `builtin local` splits words, what it assigns is quoted.

# Sends: slot, event, kind, number of fields, fields; each ends in a NUL.
__lambfold_report() {
    builtin local kind="$1"
    builtin shift
    builtin printf '%s\0' "$__lambfold_slot" "$__lambfold_event_number" "$kind" "$#" "$@" \
        >|"$__lambfold_reports"
}

# Puts the callers into __lambfold_frames as label, path, line, innermost first, up to this file.
# $1: how many innermost functions to leave out; $2: the line in the first that is kept.
__lambfold_stack() {
    builtin local -i index="$(($1 + 1))"
    builtin local line="$2"
    __lambfold_frames=()
    while ((index < ${#FUNCNAME[@]} && ${#__lambfold_frames[@]} < 96)); do
        [[ ${BASH_SOURCE[index]} == "$__lambfold_driver" ]] && builtin break
        __lambfold_frames+=("${FUNCNAME[index]}" "${BASH_SOURCE[index]}" "$line")
        line=${BASH_LINENO[index]}
        ((index += 1))
    done
}

# The ERR trap: remembers the innermost of the failures that lead to one exit status.
# $1: status, $2: line, $3: command
__lambfold_on_error() {
    builtin local -i depth="${#FUNCNAME[@]}"
    builtin local command="${3:0:1000}"
    [[ ${__lambfold_failure[0]-} == "$1" && ${__lambfold_failure[1]-} == "$command" ]] &&
        ((depth < __lambfold_depth)) && builtin return
    # This file's own way to hand a status on.
    [[ $command == builtin\ * || $command == *__lambfold_serve* ]] && builtin return
    __lambfold_stack 1 "$2"
    # In this file the failure is the handler's `return`, whose line nobody knows.
    ((${#__lambfold_frames[@]})) ||
        __lambfold_frames=("$__lambfold_function" "$__lambfold_file" 0)
    __lambfold_depth=depth
    __lambfold_failure=("$1" "$command" "${__lambfold_frames[@]}")
}

# The EXIT trap. $1: status, $2: command
__lambfold_on_exit() {
    builtin set +eux
    builtin local command="${2:0:1000}"
    if [[ $__lambfold_done ]]; then
        __lambfold_report_end "$1"
        builtin return
    fi
    # `set -e`, a fatal error or a signal: whoever waits for this shell has its status.
    [[ $__lambfold_exits ]] && builtin return
    __lambfold_stack 1 0
    # In the main shell the stack is unwound by now, and the last failure has to do.
    if ((${#__lambfold_frames[@]})) && [[ ${__lambfold_failure[1]-} != "$command" ]]; then
        __lambfold_failure=("$1" "$command" "${__lambfold_frames[@]}")
    fi
    [[ ${__lambfold_failure[0]-} == "$1" ]] && __lambfold_report detail "${__lambfold_failure[@]::98}"
}

# Tells where it was called, and does what it always does.
exit() {
    builtin local status="$?"
    if [[ $BASHPID == "$__lambfold_pid" ]]; then
        __lambfold_exits=1
        __lambfold_stack 1 "${BASH_LINENO[0]}"
        __lambfold_report detail "${1-$status}" "exit${1+ $1}" "${__lambfold_frames[@]::96}"
    fi
    builtin exit "${1-$status}"
}

__lambfold_report_end() {
    if (($1 == 0)); then
        builtin printf '%s\0%s\0end\0001\0000\0' "$__lambfold_slot" "$__lambfold_event_number" \
            >&"$__lambfold_reports_fd"
    elif [[ ${__lambfold_failure[0]-} == "$1" ]]; then
        __lambfold_report end "${__lambfold_failure[@]::98}"
    else
        __lambfold_report end "$1"
    fi
}

# Before an event is waited for, since what is done then costs nobody's time.
__lambfold_watch() {
    __lambfold_failure=() __lambfold_depth=0 __lambfold_done= __lambfold_exits=
    __lambfold_pid=$BASHPID
    if [[ $__lambfold_pid != "$$" || ! $__lambfold_exit_trap ]]; then
        builtin trap '__lambfold_on_exit "$?" "$BASH_COMMAND"' EXIT
    fi
    if [[ $__lambfold_error_trap ]]; then
        builtin eval "$__lambfold_error_trap"
    fi
}

# Waits for an event and takes it; fails when the bootstrap is gone. The fields: number, event (or what
# to read it from), what is unusual, standard input and output (of this event; for a shell that stays,
# of the next one), request id, deadline, how often to look for the next event, how the other
# variables come, these.
__lambfold_take() {
    builtin read -r -N 8 -u "$__lambfold_commands_fd" __lambfold_number || builtin return
    while [[ $__lambfold_number == \?* ]]; do
        # Does anybody wait?
        __lambfold_report waiting "${__lambfold_number#?}"
        builtin read -r -N 8 -u "$__lambfold_commands_fd" __lambfold_number || builtin return
    done
    builtin mapfile -d '' -t -u "$__lambfold_context_fd" __lambfold_event || builtin return
    if [[ ${__lambfold_event[0]} != "$__lambfold_number" ]]; then
        # An event that is over, or that has begun elsewhere.
        __lambfold_take
        builtin return
    fi
    __lambfold_event_number=$__lambfold_number
    __lambfold_tell
}

# Most variables are assigned, since they are exported already: that is much faster.
__lambfold_tell() {
    AWS_LAMBDA_REQUEST_ID=${__lambfold_event[5]} AWS_LAMBDA_DEADLINE_MS=${__lambfold_event[6]}
    case ${__lambfold_event[8]} in
        trace) AWS_LAMBDA_TRACE_ID=${__lambfold_event[9]} _X_AMZN_TRACE_ID=${__lambfold_event[9]} ;;
        usual)
            AWS_LAMBDA_TRACE_ID=${__lambfold_event[9]} _X_AMZN_TRACE_ID=${__lambfold_event[9]} \
                AWS_LAMBDA_FUNCTION_ARN=${__lambfold_event[10]} \
                AWS_LAMBDA_CONTENT_TYPE=${__lambfold_event[11]}
            ;;
        *)
            builtin unset AWS_LAMBDA_TRACE_ID _X_AMZN_TRACE_ID AWS_LAMBDA_CLIENT_CONTEXT \
                AWS_LAMBDA_COGNITO_IDENTITY AWS_LAMBDA_TENANT_ID
            builtin export "${__lambfold_event[@]:9:__lambfold_event[8]}"
            ;;
    esac
    if [[ ${__lambfold_event[2]} == file ]]; then __lambfold_read_event; fi
}

__lambfold_read_event() {
    builtin local -a parts
    builtin local IFS=
    # One element, unless there are NULs, which no variable holds: then what is between them.
    builtin mapfile -d '' -t parts <"${__lambfold_event[1]}" || builtin return
    __lambfold_event[1]="${parts[*]}"
}

__lambfold_call() {
    [[ $__lambfold_options ]] && builtin set "-$__lambfold_options"
    "$__lambfold_function" "${__lambfold_event[1]}"
    # In one command, of which a handler's `set -x` shows one line.
    builtin set +eux -- "$?"
    builtin return "$1"
}

# The subshell of one event. Before the handler begins it empties the context file, in passing: an
# event whose context is still there can be handed to another one.
__lambfold_serve() {
    __lambfold_watch
    if ! __lambfold_take; then
        builtin trap - EXIT
        builtin exit 0
    fi
    if [[ $__lambfold_compat ]]; then
        while [[ ${__lambfold_event[1]} == *$'\n' ]]; do
            __lambfold_event[1]=${__lambfold_event[1]%$'\n'}
        done
        exec </dev/null 2>|"$__lambfold_context" 2>|"${__lambfold_event[4]}"
    else
        exec <"${__lambfold_event[3]}" >|"$__lambfold_context" >|"${__lambfold_event[4]}"
    fi
    __lambfold_call
    builtin local status="$?"
    __lambfold_done=1
    builtin return "$status"
}

# Finds where bash has put aside the file that $1 is the path of, and puts the number into REPLY.
__lambfold_find() {
    for ((REPLY = 10; REPLY < 256; REPLY += 1)); do
        [[ /proc/$$/fd/$REPLY -ef $1 ]] && builtin return
    done
    builtin printf 'bash runtime: %s is not open in bash\n' "$1" >&2
    builtin exit 1
}

# Standard input was the context, standard output that of the second lane; then they were the commands
# and the reports of one lane after the other. None stays: what is printed between events belongs to
# the log.
__lambfold_begin() {
    __lambfold_find "$__lambfold_context"
    __lambfold_context_fd=$REPLY
    if [[ $__lambfold_mode == isolate ]]; then
        __lambfold_find "$__lambfold_other_context"
        __lambfold_other_context_fd=$REPLY
        __lambfold_begin_other <"$__lambfold_other_commands" >|"$__lambfold_other_reports"
    else
        __lambfold_serve_all </dev/null >&2
    fi
}

__lambfold_begin_other() {
    __lambfold_serve_all </dev/null >&2
}

__lambfold_serve_all() {
    __lambfold_find "$__lambfold_commands"
    __lambfold_commands_fd=$REPLY
    __lambfold_find "$__lambfold_reports"
    __lambfold_reports_fd=$REPLY
    "__lambfold_$__lambfold_mode"
}

# Two lanes that take turns: while the subshell of one event ends, and the next is made, the other lane
# has one that waits. A pipeline, since what is started with & ignores SIGINT.
__lambfold_isolate() {
    __lambfold_lane | __lambfold_other_lane
}

__lambfold_other_lane() {
    __lambfold_find "$__lambfold_other_commands"
    __lambfold_commands_fd=$REPLY
    __lambfold_find "$__lambfold_other_reports"
    __lambfold_reports_fd=$REPLY
    __lambfold_reports=$__lambfold_other_reports
    __lambfold_context=$__lambfold_other_context __lambfold_context_fd=$__lambfold_other_context_fd
    __lambfold_lane
}

__lambfold_lane() {
    exec </dev/null >&2
    __lambfold_report lane "$BASHPID"
    while ((__lambfold_slot += 1)); do
        (__lambfold_serve)
        builtin printf '%s\0000\0gone\0001\000%s\0' "$__lambfold_slot" "$?" \
            >&"$__lambfold_reports_fd" || builtin exit 0
    done
}

# One event per turn. What every event needs stands here and not in functions, which bash copies
# whenever it calls them.
__lambfold_persist() {
    __lambfold_watch
    __lambfold_event=('' '' '' "$__lambfold_stdin" "$__lambfold_stdout" '' '' 0)
    while ((1)); do
        # Input and output of an event are opened before it comes.
        exec <"${__lambfold_event[3]}" >|"${__lambfold_event[4]}"
        # One that comes at once finds this shell awake.
        for ((__lambfold_looks = __lambfold_event[7]; __lambfold_looks; __lambfold_looks -= 1)); do
            builtin read -t 0 -u "$__lambfold_commands_fd" && builtin break
        done
        __lambfold_event=() __lambfold_failure=() __lambfold_depth=0 __lambfold_exits=
        builtin read -r -N 8 -u "$__lambfold_commands_fd" __lambfold_event_number || __lambfold_leave
        builtin mapfile -d '' -t -u "$__lambfold_context_fd" __lambfold_event || __lambfold_leave
        if [[ ${__lambfold_event[2]} ]]; then
            __lambfold_tell
        else
            AWS_LAMBDA_REQUEST_ID=${__lambfold_event[5]} \
                AWS_LAMBDA_DEADLINE_MS=${__lambfold_event[6]} \
                AWS_LAMBDA_TRACE_ID=${__lambfold_event[9]} _X_AMZN_TRACE_ID=${__lambfold_event[9]}
        fi
        [[ $__lambfold_options ]] && builtin set "-$__lambfold_options"
        # (Not in a condition, where `set -e` and the ERR trap have no effect.)
        "$__lambfold_function" "${__lambfold_event[1]}"
        case $?$- in
            *[eux]* | [!0]*) __lambfold_end "$?" ;;
            *)
                builtin printf '0\0%s\0end\0001\0000\0' "$__lambfold_event_number" \
                    >&"$__lambfold_reports_fd"
                ;;
        esac
    done
}

# The end of an event that has failed, or that leaves an option behind.
__lambfold_end() {
    { builtin set +eux; } 2>/dev/null
    __lambfold_report_end "$1"
}

# The bootstrap is gone.
__lambfold_leave() {
    exec >&2
    [[ $__lambfold_exit_trap ]] || builtin trap - EXIT
    builtin exit 0
}

__lambfold_unwind() {
    # Have every function return, up to the one that called the handler.
    [[ ${FUNCNAME[1]} == __lambfold_persist ]] || builtin return 2
    builtin trap - DEBUG
    builtin shopt -u extdebug
    builtin set -E
}

# lambda_error TYPE MESSAGE: the event has failed. Nothing of the handler runs after it.
lambda_error() {
    builtin set +eux
    __lambfold_stack 1 "${BASH_LINENO[0]}"
    __lambfold_report fail "${1-Function.Error}" "${2-}" "${__lambfold_frames[@]}"
    if [[ $__lambfold_mode == persist && $BASHPID == "$$" ]]; then
        # This shell has to live on, so each function on the way out is made to return.
        builtin shopt -s extdebug
        builtin set -T
        builtin trap __lambfold_unwind DEBUG
        builtin return 1
    fi
    builtin exit 1
}

# lambda_stream [CONTENT-TYPE] [-s STATUS] [-H 'Name: value']…: from here on the caller receives
# standard output as it is written. Status and headers are for function URLs.
lambda_stream() {
    builtin local type= status= head= name REPLY
    while (($#)); do
        case $1 in
            -s)
                status=${2-}
                builtin shift
                ;;
            -H)
                name=${2%%:*}
                __lambfold_json "$name"
                head+=${head:+,}$REPLY:
                name=${2#*:}
                __lambfold_json "${name# }"
                head+=$REPLY
                builtin shift
                ;;
            *) type=$1 ;;
        esac
        builtin shift || builtin break
    done
    if [[ ! $status && ! $head ]]; then
        __lambfold_report stream "${type:-application/octet-stream}"
        builtin return
    fi
    if [[ $status == *[!0-9]* ]]; then
        builtin printf 'lambda_stream: `%s` is no status\n' "$status" >&2
        builtin return 2
    fi
    if [[ $type ]]; then
        __lambfold_json "$type"
        head=\"Content-Type\":$REPLY${head:+,}$head
    fi
    __lambfold_report stream application/vnd.awslambda.http-integration-response
    builtin printf '{"statusCode":%s,"headers":{%s}}\0\0\0\0\0\0\0\0' "${status:-200}" "$head"
}

# Puts $1 as a JSON string into REPLY.
__lambfold_json() {
    REPLY=${1//\\/\\\\}
    REPLY=${REPLY//\"/\\\"}
    REPLY=${REPLY//$'\t'/\\t}
    REPLY=\"${REPLY//[[:cntrl:]]/}\"
}

# lambda_remaining_ms [VARIABLE]: milliseconds until the deadline, printed or put into VARIABLE.
lambda_remaining_ms() {
    builtin local now="${EPOCHREALTIME-}" left
    if [[ $now ]]; then
        now=${now/[.,]/}
        now=${now::-3}
    else
        builtin printf -v now '%(%s)T000' -1
    fi
    left=$((AWS_LAMBDA_DEADLINE_MS - now))
    ((left > 0)) || left=0
    if [[ ${1-} ]]; then
        builtin printf -v "$1" %d "$left"
    else
        builtin printf '%d\n' "$left"
    fi
}

__lambfold_slot=0 __lambfold_event_number=${__lambfold_event_number:-0}
__lambfold_error_trap= __lambfold_exit_trap= __lambfold_options= __lambfold_frames=()
__lambfold_driver=${BASH_SOURCE[0]}

if ((BASH_VERSINFO[0] < 4 || BASH_VERSINFO[0] == 4 && BASH_VERSINFO[1] < 4)); then
    __lambfold_report old "$BASH_VERSION"
    builtin exit 1
fi
builtin set -E
builtin trap '__lambfold_on_error "$?" "$LINENO" "$BASH_COMMAND"' ERR
__lambfold_watch
if [[ $__lambfold_mode != script ]]; then
    [[ $__lambfold_compat ]] && builtin set -uo pipefail
    builtin source "$__lambfold_file" </dev/null
    # From here on the handler file's options hold for its functions only.
    { __lambfold_options=${-//[!aefuxv]/}; builtin set +aefuxv; } 2>/dev/null
    # A trap of the handler file's is set for events only. (By way of a file, which needs no fork.)
    {
        builtin trap -p ERR
        builtin printf '\0'
        builtin trap -p EXIT
    } >|"$__lambfold_context"
    builtin mapfile -d '' -t __lambfold_event <"$__lambfold_context"
    if [[ ${__lambfold_event[0]} && ${__lambfold_event[0]} != *__lambfold_on_error* ]]; then
        __lambfold_error_trap=${__lambfold_event[0]}
        builtin trap - ERR
    fi
    if [[ ${__lambfold_event[1]-} && ${__lambfold_event[1]} != *__lambfold_on_exit* ]]; then
        __lambfold_exit_trap=${__lambfold_event[1]}
    else
        builtin trap - EXIT
    fi
    if ! builtin declare -F -- "$__lambfold_function" >/dev/null; then
        builtin trap - EXIT
        __lambfold_report missing
        builtin exit 1
    fi
    __lambfold_report ready
    builtin export AWS_LAMBDA_REQUEST_ID AWS_LAMBDA_DEADLINE_MS AWS_LAMBDA_FUNCTION_ARN \
        AWS_LAMBDA_CONTENT_TYPE AWS_LAMBDA_TRACE_ID _X_AMZN_TRACE_ID
    __lambfold_begin <"$__lambfold_commands" >|"$__lambfold_reports"
fi
