#!/usr/bin/env bash
# Makes .venv with the versions of requirements.lock: with uv where there is one, else with pip.
# Run by `make setup`; the stamp .venv/.ready is written last, so an interrupted run is simply done again.
set -euo pipefail
unset CDPATH
cd "$(dirname "$0")/.."

fail() {
    printf 'odcloud: error: %s\n' "$*" >&2
    exit 2
}

find_python() {
    local candidate
    for candidate in "${candidates[@]}"; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 13))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

# One at a time: what another has made meanwhile is not made again.
exec 9<requirements.lock
if ! flock --nonblock 9; then
    echo "setup: another one is under way in $PWD; waiting for it"
    flock 9
    if [[ .venv/.ready -nt requirements.lock && .venv/.ready -nt pyproject.toml && .venv/.ready -nt tools/setup.sh ]]; then exit; fi
fi

# What is set here is this project's own; a virtual environment that happens to be active is left alone.
unset VIRTUAL_ENV PYTHONHOME PYTHONPATH
candidates=(python3.12 python3.11 python3.10 python3 python)
if [[ -n ${PYTHON:-} ]]; then candidates=("$PYTHON"); fi
python=$(find_python) || fail "no Python 3.10, 3.11 or 3.12 found (TensorFlow 2.20 needs one of them); tried ${candidates[*]}. Install one, or name it: make setup PYTHON=/path/to/python3.11"
incomplete="the dependencies could not be installed, for what stands above (no way to the package index? a full disk?). Run it again when
that is mended: what was downloaded is kept."
rm -f .venv/.ready

if uv=$(command -v uv) && [[ $uv != "$PWD"/.venv/* ]]; then
    echo "setup: .venv with $("$python" --version) and $(uv --version)"
    [[ -x .venv/bin/python ]] || uv venv --quiet --clear --python "$python" .venv
    # Compiled now, once: each replica of each job is a new process that imports TensorFlow.
    uv pip sync --python .venv/bin/python --require-hashes --compile-bytecode requirements.lock || fail "$incomplete"
else
    echo "setup: .venv with $("$python" --version) and pip (the first time this takes some minutes: TensorFlow is 600 MB)"
    "$python" -c 'import ensurepip, venv' 2>/dev/null || fail "$python has no venv module. Install it (Debian, Ubuntu: apt-get install python3-venv) and run again."
    # --clear: what an interrupted run left is not mended, it is replaced; pip's own cache keeps that quick.
    "$python" -m venv --clear .venv
    .venv/bin/python -m pip --disable-pip-version-check install --progress-bar on --no-deps --require-hashes --requirement requirements.lock ||
        fail "$incomplete"
fi
.venv/bin/python -m pip --version >/dev/null 2>&1 || .venv/bin/python -m ensurepip >/dev/null
.venv/bin/python -m pip --disable-pip-version-check install --quiet --no-deps --no-build-isolation --editable .
# The same for the project's own modules, which where PYTHONDONTWRITEBYTECODE is set no other command would compile.
.venv/bin/python -m compileall -q infra launcher localcloud trainer
touch .venv/.ready
