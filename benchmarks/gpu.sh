#!/usr/bin/env bash
# All benchmarks and tests that need a GPU, in a few minutes: bash benchmarks/gpu.sh [RESULTS-FOLDER]
#
# It needs torch with CUDA, sentence-transformers >= 6, pydantic, pyyaml, rich and ir-measures, but not PyLate, FAISS or
# datasets. It uses late-interaction-kernels if installed. DATA is a folder in BEIR layout with the splits train and
# test; BACKBONE is a folder or a hub name.
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

# Encoding against the host's own, and exact search against bare matrix products.
"$python" -m benchmarks.eval encode search --device cuda --backbone "$backbone" --scifact "$data" \
    --output "$results/eval-cuda.json"

# Full training in bf16, with and without fused kernels and compilation: examples per second, share of the bare
# products' speed, peak memory.
for batch in 32 128 512 1024; do
    for options in "" "--unfused" "--compile"; do
        "$python" -m benchmarks.train --measure ours --device cuda --precision bf16 --data "$data" --batch "$batch" \
            --steps 10 --backbone "$backbone" $options | tail -1 |
            sed "s/^{/{\"batch\": $batch, \"options\": \"$options\", /" >> "$results/train-cuda.jsonl" ||
            echo "{\"batch\": $batch, \"options\": \"$options\", \"failed\": true}" >> "$results/train-cuda.jsonl"
    done
done
# Where a step's time goes.
"$python" -m benchmarks.train --measure parts --device cuda --precision bf16 --data "$data" --batch 128 --steps 10 \
    --backbone "$backbone" | tail -1 > "$results/train-parts-cuda.json"
# Against the host's trainer, which needs datasets.
if "$python" -c "import datasets" 2>/dev/null; then
    "$python" -m benchmarks.train --device cuda --precision bf16 --data "$data" --batch 32 --batch 128 \
        --backbone "$backbone" --output "$results/train-cuda.json"
fi

# The seeds of a head trained together against one after the other.
"$python" -m benchmarks.seeds_together --device cuda --output "$results/seeds-together-cuda.json"

# One pass over a corpus: growing made-up corpora with a tiny backbone, and real ones with a real backbone, both ways.
"$python" -m benchmarks.scale growth heads real --device cuda --sizes 100000 300000 --backbone "$backbone" \
    --data "$(dirname "$data")" --real "$(basename "$data")" --output "$results/scale-cuda.json"

# Tests of the fused kernels and the adapters on the GPU.
"$python" -m pytest tests/projheads/test_scoring.py tests/projheads/hosts -q -p no:cacheprovider | tee "$results/tests.txt"

# An experiment with a frozen backbone and one with full fine-tuning, from YAML to leaderboard.
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
