# shellcheck shell=bash
# To be sourced by batch scripts. `run_or_requeue COMMAND...` runs a command; on SIGTERM (the time limit,
# with --signal=B:TERM@SECONDS, or preemption) the command stops cleanly and the job goes back to the
# queue, where the same command goes on where it was.
source recipes/launch/stoppable.sh

run_or_requeue() {
    local code stopping
    run_stoppable "$@"
    if [[ -n $stopping && $code -ne 0 ]]; then
        echo "stopped by SIGTERM; back to the queue" >&2
        # A job that is preempted is requeued by Slurm itself; then this one is refused.
        scontrol requeue "$SLURM_JOB_ID" || true
        exit 143
    fi
    [[ $code -eq 0 ]] || exit "$code"
}
