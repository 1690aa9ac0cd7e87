# shellcheck shell=bash
# To be sourced. `run_stoppable COMMAND...` runs a command, hands SIGTERM on to it and waits until it has
# stopped; then `code` is its exit code and `stopping` is not empty if SIGTERM came.

# shellcheck disable=SC2034 # the caller reads both
run_stoppable() {
    code=0 stopping=""
    "$@" &
    local child=$!
    trap 'stopping=yes; kill -TERM "$child" 2>/dev/null || true' TERM
    # A signal ends `wait` before the child has ended; hence again.
    while :; do
        wait "$child" && code=0 || code=$?
        kill -0 "$child" 2>/dev/null || break
    done
    trap - TERM
}
