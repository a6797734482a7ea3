#!/usr/bin/env bash
# `make smoke-gcp PROJECT=… [REGION=us-central1] [MAX_COST=2]`: everything once on a real project, on the cheapest machines that will do:
# a stack of its own, a training of 30 steps on a chief, a worker and a parameter server, evaluation, report; then all of it goes again,
# whatever happened. MAX_COST (US dollars, list prices) ends the training before it costs more; evaluation and bucket are cents.
# Another region than us-central1 needs cloudbilling.googleapis.com enabled in the project, for its prices.
set -euo pipefail
unset CDPATH
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"

: "${PROJECT:?Say which project pays: make smoke-gcp PROJECT=my-project}"
region=${REGION:-us-central1}
stack=smoke-$(date +%s)
work=build/smoke

step() { printf '\n\033[1m== %s\033[0m\n' "$*"; }

# The state lives here only as long as the stack does, unless a backend was chosen.
mkdir -p "$work/state"
export PULUMI_BACKEND_URL=${PULUMI_BACKEND_URL:-file://$PWD/$work/state}
export PULUMI_CONFIG_PASSPHRASE=${PULUMI_CONFIG_PASSPHRASE-}

leave() {
    local code=$?
    trap - EXIT INT TERM
    step "pulumi destroy"
    if pulumi destroy --yes --skip-preview --stack "$stack" --suppress-outputs && pulumi stack rm --yes "$stack"; then
        echo "nothing of $stack is left in $PROJECT"
    else
        {
            echo "odcloud: error: $stack is not removed. Again, in $PWD:"
            printf '    PULUMI_BACKEND_URL=%q PULUMI_CONFIG_PASSPHRASE=… .venv/bin/pulumi destroy --stack %q\n' "$PULUMI_BACKEND_URL" "$stack"
            echo "with the passphrase that it was made with (empty, if you have set none); and see .venv/bin/odcloud doctor --orphans"
        } >&2
        code=1
    fi
    exit "$code"
}

step "1/5 a small dataset and a small configuration"
rm -rf "$work/digits"
odcloud data digits "$work/digits" --train-images=40 --test-images=8 --shards=1
sed -e 's/: 128/: 64/' -e 's/batch_size: 8/batch_size: 2/' -e 's/num_steps: 1200/num_steps: 30/' \
    examples/digits/pipeline.config >"$work/pipeline.config"

step "2/5 pulumi up: the stack $stack in $PROJECT, $region"
odcloud init "$stack" --project "$PROJECT" --region "$region" --on-destroy delete \
    --data-dir "$work/digits" --pipeline-config "$work/pipeline.config"
trap leave EXIT
trap 'exit 130' INT TERM
pulumi up --yes --skip-preview --stack "$stack" --suppress-outputs

step "3/5 training, for at most ${MAX_COST:-2} US dollars"
run=object_detection_$(date +%s)
odcloud cost --config tools/smoke/job.yaml --hours 0.5
odcloud train --stack "$stack" --run "$run" --config tools/smoke/job.yaml --max-cost "${MAX_COST:-2}" --follow

step "4/5 evaluation"
odcloud eval --stack "$stack" --run "$run" --follow

step "5/5 report"
odcloud report --stack "$stack" --run "$run" --output "report/$run"
