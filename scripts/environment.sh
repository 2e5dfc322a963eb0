# Sourced by the other scripts: makes the virtual environment in .venv and installs the project into it.
# Usage: install_project EXTRAS     (as in ".[dev]"; may be empty)

python="${PYTHON:-python3}"

install_project() {
    local extras="$1" wanted
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        echo "error: Python 3.11 or newer is needed; set PYTHON to one, for example PYTHON=python3.12" >&2
        exit 2
    fi
    wanted="$extras $("$python" --version) $(cat pyproject.toml constraints.txt | cksum)"
    if [ ! -x .venv/bin/python ]; then
        echo "making a virtual environment in .venv"
        if ! "$python" -m venv .venv; then
            rm -rf .venv
            echo "error: python3 cannot make virtual environments; on Debian or Ubuntu: apt install python3-venv" >&2
            exit 2
        fi
    fi
    if [ "$(cat .venv/installed 2>/dev/null)" != "$wanted" ]; then
        echo "installing the project and what it needs (this takes minutes the first time)"
        .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".$extras"
        echo "$wanted" > .venv/installed
    fi
}
