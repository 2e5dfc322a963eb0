# Sourced by the other scripts: makes the virtual environment in .venv and installs the project into it.
# Usage: install_project EXTRAS     (as in dev,deepspeed; may be empty)

install_project() {
    local extras="$1" python="${PYTHON:-}" stamp there="" extra missing=""
    if [ -z "$python" ]; then
        python=python3
        if [ -x .venv/bin/python ]; then python=.venv/bin/python; fi
    fi
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        echo "error: Python 3.11 or newer is needed; set PYTHON to one, for example PYTHON=python3.12" >&2
        exit 2
    fi
    if [ -x .venv/bin/python ] && [ "$(.venv/bin/python --version 2>&1)" != "$("$python" --version)" ]; then
        echo "the virtual environment in .venv is of another Python; making it anew"
        rm -rf .venv
    fi
    if [ ! -x .venv/bin/python ]; then
        echo "making a virtual environment in .venv"
        if ! "$python" -m venv .venv; then
            rm -rf .venv
            echo "error: python3 cannot make virtual environments; on Debian or Ubuntu: apt install python3-venv" >&2
            exit 2
        fi
    fi
    # Of what is installed: the files that say what is needed, and the extras, a line each.
    stamp="$(cat pyproject.toml constraints.txt | cksum)"
    if [ "$(head -n 1 .venv/installed 2>/dev/null)" = "$stamp" ]; then
        there="$(tail -n +2 .venv/installed)"
    else
        missing=yes
    fi
    for extra in ${extras//,/ }; do
        if ! grep -qxF "$extra" <<< "$there"; then missing=yes; fi
    done
    if [ -n "$missing" ]; then
        echo "installing the project and what it needs (this takes minutes the first time)"
        .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".${extras:+[$extras]}"
        printf '%s\n' "$stamp" $there ${extras//,/ } > .venv/installed
    fi
}
