#!/usr/bin/env bash
# One machine of a Ray cluster. On the machine that runs the commands:  recipes/launch/ray/node.sh head
# on every other:  recipes/launch/ray/node.sh worker HEAD_ADDRESS       (stop with Ctrl-C or SIGTERM)
# Further arguments go to `ray start`. Every machine needs the same environment, and keys (HF_TOKEN, ...)
# in its own environment variables.
set -euo pipefail
cd "$(dirname "$0")/../../.."

PORT=${RAY_PORT:-6379}
PATH=$PWD/.venv/bin:$PATH
# Engines that outlive a killed worker would keep its GPU memory.
export RAY_process_group_cleanup_enabled=true
# A busy machine may need more than Ray's 60 seconds to join.
export RAY_raylet_start_wait_time_s=${RAY_raylet_start_wait_time_s:-300}

case "${1:-}" in
head)
    shift
    exec ray start --head --port "$PORT" --disable-usage-stats --block "$@"
    ;;
worker)
    head=${2:?usage: node.sh worker HEAD_ADDRESS}
    shift 2
    # The head may come up later than this machine.
    until (exec 3<>"/dev/tcp/$head/$PORT") 2>/dev/null; do
        sleep "${RETRY_SECONDS:-5}"
    done
    exec ray start --address "$head:$PORT" --disable-usage-stats --block "$@"
    ;;
*)
    echo "usage: node.sh head | node.sh worker HEAD_ADDRESS" >&2
    exit 2
    ;;
esac
