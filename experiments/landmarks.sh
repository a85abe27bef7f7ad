#!/usr/bin/env bash
# Trains on Landmarks-SPair and evaluates there and on PF-WILLOW. Results go to experiments/results, tables to docs/results.md.
#
#     experiments/landmarks.sh            train, evaluate, compare feature-map sizes: two hours on two CPU cores
#     experiments/landmarks.sh evaluate   only the evaluation of a finished run
#     experiments/landmarks.sh frozen     train a decoder on a frozen DINOv2-S and evaluate it: two hours more
#
# PYTHON has simplematch and its extra `train`. DATA holds Landmarks-SPair and PF-WILLOW, DINOV2_S is the weights file of
# DINOv2-S, and RUNS receives the training runs.
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON="${PYTHON:-.venv/bin/python}"
DATA="${DATA:-../shared/data}"
DINOV2_S="${DINOV2_S:-../shared/weights/dinov2_vits14_fp16.safetensors}"
RUNS="${RUNS:-runs}"
results=experiments/results
run="$RUNS/landmarks-lite0-256"
frozen_run="$RUNS/landmarks-dinov2-s14-252"

simplematch() { "$PYTHON" -m simplematch "$@"; }
spair() { simplematch eval --dataset spair --root "$DATA/Landmarks-SPair" "$@"; }
willow() { simplematch eval --dataset pf-willow --root "$DATA/PF-WILLOW" --codebase default,dift,simplematch "$@"; }

# recipe, output, further options; goes on if the run has begun
run_recipe() {
    local recipe="$1" output="$2" resume=false
    if compgen -G "$output/state/*/position.json" > /dev/null; then resume=true; fi
    simplematch train --recipe "$recipe" --root "$DATA/Landmarks-SPair" --output "$output" --resume "$resume" "${@:3}"
}

train() {
    run_recipe landmarks-lite0-256 "$run"
    "$PYTHON" experiments/landmarks.py curve "$run" "$results/landmarks/training.json"
}

evaluate() {
    "$PYTHON" experiments/landmarks.py ceiling "$DATA/Landmarks-SPair" "$results/landmarks/ceiling.json"
    local annotations suffix
    for annotations in image pair; do
        suffix=$([ "$annotations" = image ] || echo -pair)
        spair --annotations "$annotations" --preset efficientnet-lite0-256-nn --output "$results/landmarks/nearest$suffix.json"
        spair --annotations "$annotations" --checkpoint "$run/last" --output "$results/landmarks/trained$suffix.json"
    done
    willow --checkpoint "$run/last" --output "$results/willow/landmarks-lite0-256.json"
    willow --preset efficientnet-lite0-448-nn --output "$results/willow/efficientnet-lite0-448-nn.json"
    willow --preset dinov2-s14-448-nn --weights "$DINOV2_S" --output "$results/willow/dinov2-s14-448-nn.json"
    willow --preset efficientnet-lite0-448-nn --resize letterbox \
        --output "$results/willow/efficientnet-lite0-448-nn-letterbox.json"
    willow --preset dinov2-s14-448-nn --weights "$DINOV2_S" --resize letterbox \
        --output "$results/willow/dinov2-s14-448-nn-letterbox.json"
}

frozen() {
    run_recipe landmarks-dinov2-s14-252 "$frozen_run" --fields.weights "$DINOV2_S" --fields.cache "$RUNS/features"
    "$PYTHON" experiments/landmarks.py curve "$frozen_run" "$results/landmarks/frozen-training.json"
    spair --annotations image --checkpoint "$frozen_run/last" --output "$results/landmarks/frozen.json"
    spair --annotations pair --checkpoint "$frozen_run/last" --output "$results/landmarks/frozen-pair.json"
}

feature_map_sizes() {
    simplematch ablate feature-map-size "$DATA/Landmarks-SPair" "$RUNS/feature-map-size" --fields '{"epochs": 8, "lr_step_size": 5}'
    cp "$RUNS/feature-map-size/table.json" "$results/landmarks/feature-map-size.json"
}

mkdir -p "$results/landmarks" "$results/willow"
case "${1:-all}" in
    all) train; evaluate; feature_map_sizes; "$PYTHON" experiments/results_page.py ;;
    evaluate) evaluate ;;
    frozen) frozen; "$PYTHON" experiments/results_page.py ;;
    *) echo "usage: experiments/landmarks.sh [evaluate | frozen]" >&2; exit 2 ;;
esac
