#!/usr/bin/env bash
# Everything that wants a GPU, in one call of a few minutes: bash benchmarks/gpu.sh [RESULTS-FOLDER]
#
# It needs torch with CUDA and sentence-transformers >= 6; PyLate, FAISS and datasets are not needed, and
# late-interaction-kernels is used where it is installed. The configuration's schema and the measures need pydantic,
# pyyaml, rich and ir-measures. DATA is a folder in BEIR layout with the splits train and test; BACKBONE is a folder or
# a hub name.
set -euo pipefail
cd "$(dirname "$0")/.."
results=${1:-results/gpu}
data=${DATA:-.data/scifact}
backbone=${BACKBONE:-sentence-transformers/all-MiniLM-L6-v2}
python=${PYTHON:-python3}
mkdir -p "$results"
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv > "$results/card.csv"

# MaxSim: fused, blocked and reference against each other, in time and peak memory.
"$python" -m benchmarks.maxsim --device cuda --output "$results/maxsim-cuda.json"

# Encoding against the host's, and exact search against the bare products.
"$python" -m benchmarks.eval encode search --device cuda --backbone "$backbone" --scifact "$data" \
    --output "$results/eval-cuda.json"

# Full training in bf16: examples a second, share of the bare products' speed, peak memory; fused or not, compiled or not.
for batch in 32 128 512 1024; do
    for options in "" "--unfused" "--compile"; do
        "$python" -m benchmarks.train --measure ours --device cuda --precision bf16 --data "$data" --batch "$batch" \
            --steps 10 --backbone "$backbone" $options | tail -1 |
            sed "s/^{/{\"batch\": $batch, \"options\": \"$options\", /" >> "$results/train-cuda.jsonl" ||
            echo "{\"batch\": $batch, \"options\": \"$options\", \"failed\": true}" >> "$results/train-cuda.jsonl"
    done
done
# Against the trainer of the host, which needs datasets.
if "$python" -c "import datasets" 2>/dev/null; then
    "$python" -m benchmarks.train --device cuda --precision bf16 --data "$data" --batch 32 --batch 128 \
        --backbone "$backbone" --output "$results/train-cuda.json"
fi

# The fused kernels and the adapters on the card.
"$python" -m pytest tests/projheads/test_scoring.py tests/projheads/hosts -q -p no:cacheprovider | tee "$results/tests.txt"

# One experiment with a frozen backbone and one that trains the whole model, both from YAML to leaderboard.
for config in quickstart finetune; do
    output="outputs/gpu-$config"
    settings=(
        "output=$output" "device=cuda" "model.host=sentence-transformers" "model.backbone=$backbone"
        "train.data=$data" "eval.datasets=[$data]" "eval.index=exact" "train.precision=bf16" "eval.precision=bf16"
        "eval.references=[backbone, untrained]"
    )
    "$python" -m train "configs/$config.yaml" "${settings[@]}" | tee "$results/$config-train.txt"
    "$python" -m eval "configs/$config.yaml" "${settings[@]}" | tee "$results/$config-eval.txt"
    cp "$output/report/leaderboard.json" "$results/$config-leaderboard.json"
done
