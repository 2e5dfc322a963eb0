#!/usr/bin/env bash
# Set up, then ruff, mypy and the tests.
#
#   bash scripts/test.sh               everything that runs in minutes
#   bash scripts/test.sh --slow        the longer proofs as well
#   bash scripts/test.sh tests/unit    some of the tests, as pytest takes them
#
# Tests on real text look for it in $L2S_NMT_DATA and are skipped where it is not set.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh

extras=dev
marked=()
if [ "${1:-}" = "--slow" ]; then
    extras=dev,deepspeed
    marked=(-m "" -o faulthandler_timeout=7200)
    shift
fi
install_project "$extras"

.venv/bin/ruff check .
.venv/bin/ruff format --check .
# It takes one core, so the tests begin meanwhile; what it finds is shown at once.
.venv/bin/mypy &
types=$!
# Each worker computes on one thread: the workers share the cores.
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
# A file stays with one worker, so that what its tests share is made once; those that train come first.
tests=0
.venv/bin/python -m pytest --numprocesses=auto --dist=loadfile --no-loadscope-reorder --durations=10 --max-worker-restart=3 \
    "${marked[@]}" "$@" || tests=$?
# What it found may be thousands of lines above: the end says so too.
wait "$types" || {
    echo "mypy found errors: they are shown above, where it ended; .venv/bin/mypy shows them again" >&2
    exit 1
}
exit "$tests"
