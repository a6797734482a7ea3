#!/usr/bin/env bash
# The old page from its first line to its last, on this machine: `make demo` is `tools/demo.sh up`, `make down` is `tools/demo.sh down`.
# Each step finds what an earlier, possibly interrupted, run of this script has left and goes on from there.
set -euo pipefail
unset CDPATH
cd "$(dirname "$0")/.."

# What the shell has for another project, its cloud or its Pulumi account must not reach this one, nor this one them.
unset "${!CLOUDSDK_@}" "${!GOOGLE_@}" "${!ODCLOUD_@}" "${!PULUMI_@}" PYTHONHOME PYTHONPATH
export PATH="$PWD/.venv/bin:$PATH"
stack=local
current=.odcloud/demo-run # the run of a demo that has not ended yet

fail() {
    printf 'odcloud: error: %s\n' "$*" >&2
    exit 2
}

bold='' plain=''
if [[ -t 1 ]]; then bold=$'\033[1m' plain=$'\033[0m'; fi
step() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }

alone() {
    # The lock is this script's own file: it goes with this process, however that ends.
    exec 9<tools/demo.sh
    flock --nonblock 9 || fail "a make demo or make down is at work in $PWD. End it with Ctrl-C (its job goes on), or wait."
}

goes_on() {
    if (($1)); then printf '\nmake demo goes on where it was, make down takes it down.\n' >&2; fi
}

enter_local_cloud() {
    local variables
    odcloud local start
    variables=$(odcloud local env) # not in eval's own line, which would go on, on the user's own Pulumi account, when this fails
    eval "$variables"
    pulumi stack select --create "$stack" >/dev/null
}

up() {
    trap 'goes_on $?' EXIT
    trap 'exit 130' INT TERM
    step "1/6 the local cloud"
    enter_local_cloud

    step "2/6 a dataset: scans of handwritten digits, pasted into images"
    odcloud data digits digits

    step "3/6 pulumi up: bucket, service account, registry, package, configuration, data"
    # A `pulumi up` that was killed leaves its lock behind; nobody else uses this stack.
    pulumi cancel --yes --stack "$stack" >/dev/null 2>&1 || true
    pulumi up --yes --skip-preview --stack "$stack" --suppress-outputs

    [[ -s $current ]] || echo "object_detection_$(date +%s)" >"$current"
    local run
    run=$(<"$current")

    step "4/6 training: 1 chief, 2 workers, 1 parameter server ($run)"
    odcloud train --config examples/digits/job.yaml --run "$run" --follow

    step "5/6 evaluation on the held-out digits"
    odcloud eval --run "$run" --follow

    step "6/6 report"
    odcloud report --run "$run" --output "report/$run"
    rm -f "$current"

    printf '\nThe page to open:   report/%s/report.html\n' "$run"
    printf 'To go on by hand:   eval "$(.venv/bin/odcloud local env)"\n'
    printf 'To take it down:    make down\n'
}

down() {
    if [[ ! -d .odcloud ]]; then
        echo "nothing to take down"
        return
    fi
    [[ -x .venv/bin/odcloud && -x .venv/bin/pulumi ]] || fail "$PWD/.venv is not complete; run make setup, then make down"
    step "pulumi destroy"
    enter_local_cloud
    pulumi cancel --yes --stack "$stack" >/dev/null 2>&1 || true
    pulumi destroy --yes --skip-preview --stack "$stack" --suppress-outputs
    rm -f "$current"
    step "the local cloud"
    if [[ -n $(ls -A .odcloud/buckets 2>/dev/null) ]]; then
        # Of other stacks, or with checkpoints that are to be kept, or made by a pulumi up that was killed before it could note it.
        odcloud local stop
        printf 'kept: .odcloud/, for the stack %s has left buckets: %s\n' "$stack" "$(ls .odcloud/buckets | tr '\n' ' ')"
        echo "      .venv/bin/odcloud local reset --yes deletes them"
    else
        odcloud local reset --yes
        rm -rf digits build
    fi
    if [[ -d report ]]; then echo "kept: report/"; fi
}

case "${1:-}" in
up | down)
    alone
    "$1" 9<&- # what is started, and may outlive a kill, does not hold the lock
    ;;
*) fail "usage: tools/demo.sh up|down" ;;
esac
