#!/usr/bin/env bash
# Known vulnerabilities in what the project is installed with: pip-audit, in an environment of its own (.venv-audit).
#
# Exit status: 0 none is known; 1 some are, with the versions that mend them; 2 it could not be found out.
set -euo pipefail
cd "$(dirname "$0")/.."

installed=.venv/bin/python
if [ ! -x "$installed" ]; then
    echo "error: nothing is installed in .venv; run bash scripts/test.sh first" >&2
    exit 2
fi
if [ ! -x .venv-audit/bin/pip-audit ]; then
    echo "installing pip-audit into .venv-audit"
    if ! "$installed" -m venv .venv-audit || ! .venv-audit/bin/python -m pip install --quiet \
        --disable-pip-version-check pip-audit; then
        rm -rf .venv-audit
        echo "error: pip-audit could not be installed; nothing has been checked" >&2
        exit 2
    fi
fi

listed="$(mktemp)"
said="$(mktemp)"
trap 'rm -f "$listed" "$said"' EXIT
# A version with a local part (torch's "+cpu") is that of the same number; the project itself is in no database.
"$installed" -m pip list --format=freeze --exclude-editable --disable-pip-version-check | sed 's/+.*//' > "$listed"
echo "checking $(wc -l < "$listed") packages"
status=0
# Strict: without it, packages that the service says nothing about pass as sound.
.venv-audit/bin/pip-audit --strict --progress-spinner=off --disable-pip --no-deps --requirement "$listed" \
    > "$said" 2>&1 || status=$?
cat "$said"
if [ "$status" -eq 0 ]; then
    exit 0
fi
if grep -q '^Found [0-9]* known vulnerabilit' "$said"; then
    exit 1
fi
echo "error: the vulnerability service could not be asked about all of them (is there a connection?); nothing is certain" >&2
exit 2
