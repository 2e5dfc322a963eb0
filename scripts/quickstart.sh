#!/usr/bin/env bash
# From a clean machine to a model trained by learning to search: some 8 minutes on two cores, installation aside.
# Run again, it reuses what is there and says so.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
install_project ""
l2s=.venv/bin/l2s-nmt
runs=runs/quickstart

echo "1. Teacher forcing: the baseline"
$l2s train recipes/quickstart/teacher_forcing.yaml --output $runs/teacher_forcing
echo "2. Learning to search, from the baseline"
$l2s train recipes/quickstart/aggrevated.yaml --output $runs/search
echo "3. Translating and scoring the test set"
$l2s evaluate $runs/teacher_forcing
$l2s evaluate $runs/search
echo "4. Is the difference real?"
$l2s compare $runs/teacher_forcing $runs/search --output $runs/comparison
