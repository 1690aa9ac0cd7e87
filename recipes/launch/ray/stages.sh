#!/usr/bin/env bash
# Samples and scores on the Ray cluster that this machine belongs to:
#   recipes/launch/ray/stages.sh RECIPE SOURCE... [-- key=value ...]      (SOURCE: a name, all, or target)
# Run it again after anything went wrong: what is done stays done.
set -euo pipefail
cd "$(dirname "$0")/../../.."
source recipes/launch/stoppable.sh

PYTHON=${PYTHON:-.venv/bin/python}
RECIPE=${1:?usage: stages.sh RECIPE SOURCE... [-- key=value ...]}
shift
sources=()
while [[ $# -gt 0 && $1 != -- ]]; do
    sources+=("$1")
    shift
done
[[ $# -gt 0 ]] && shift
options=(--recipe "$RECIPE" "executor={type: ray, address: auto${SHARED:+, shared: \"$SHARED\"}}" "$@")

for source in "${sources[@]:?name at least one source, or all}"; do
    for stage in sample score; do
        run_stoppable "$PYTHON" -m "data_construction.$stage" --source "$source" "${options[@]}"
        [[ $code -eq 0 ]] || exit "$code"
    done
done
