#!/usr/bin/env bash
# Trains on Landmarks-SPair and evaluates there and on PF-WILLOW. Results go to experiments/results, tables to docs/results.md.
#
#     experiments/landmarks.sh            train, evaluate, compare feature-map sizes: two hours on two CPU cores
#     experiments/landmarks.sh evaluate   only the evaluation, of a finished run
#     experiments/landmarks.sh nearest    only that of the untrained matchers
#     experiments/landmarks.sh ablations  the paper's Tables 7, 8 and 10 on Landmarks-SPair, or one of them by its name
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
spair() { simplematch eval --dataset spair --root "$DATA/Landmarks-SPair" --symmetry landmarks-spair "$@"; }
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

nearest() {
    spair --preset efficientnet-lite0-256-nn --output "$results/landmarks/nearest.json"
    spair --preset efficientnet-lite0-448-nn --output "$results/landmarks/efficientnet-lite0-448-nn.json"
    spair --preset dinov2-s14-448-nn --weights "$DINOV2_S" --output "$results/landmarks/dinov2-s14-448-nn.json"
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
    spair --checkpoint "$frozen_run/last" --output "$results/landmarks/frozen.json"
}

evaluate() {
    nearest
    spair --checkpoint "$run/last" --output "$results/landmarks/trained.json"
    willow --checkpoint "$run/last" --output "$results/willow/landmarks-lite0-256.json"
}

feature_map_sizes() {
    simplematch ablate feature-map-size "$DATA/Landmarks-SPair" "$RUNS/feature-map-size" --fields '{"epochs": 8, "lr_step_size": 5}'
    cp "$RUNS/feature-map-size/table.json" "$results/landmarks/feature-map-size.json"
}

# Eight epochs a row, half an hour to an hour and a half a table on two CPU cores; interrupted rows go on.
ablation() {
    local name="$1" fields="$2"
    simplematch ablate "$name" "$DATA/Landmarks-SPair" "$RUNS/$name" --fields "$fields"
    cp "$RUNS/$name/table.json" "$results/ablations/$name.json"
    cp "$RUNS/$name/table.md" "$results/ablations/$name.md"
}

# The contrast needs a scale without a window, which the last row of the multi-scale loss doesn't have.
ablations() {
    local name
    for name in ${1:-window multi-scale-loss resolution}; do
        case "$name" in
            multi-scale-loss) ablation "$name" '{"epochs": 8, "lr_step_size": 5, "contrast": 0.0}' ;;
            *) ablation "$name" '{"epochs": 8, "lr_step_size": 5}' ;;
        esac
    done
}

mkdir -p "$results/landmarks" "$results/willow" "$results/ablations"
case "${1:-all}" in
    all) train; evaluate; feature_map_sizes; "$PYTHON" experiments/results_page.py ;;
    evaluate) evaluate ;;
    frozen) frozen; "$PYTHON" experiments/results_page.py ;;
    nearest) nearest; "$PYTHON" experiments/results_page.py ;;
    ablations) ablations "${2:-}"; "$PYTHON" experiments/results_page.py ;;
    *) echo "usage: experiments/landmarks.sh [evaluate | frozen | nearest | ablations [window | multi-scale-loss | resolution]]" >&2; exit 2 ;;
esac
