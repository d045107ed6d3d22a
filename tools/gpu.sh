#!/usr/bin/env bash
# One command for a rented GPU. It needs Python with torch, numpy and safetensors, and no network.
#
#   tools/gpu.sh pack --root LIBRISPEECH       first, where the study is installed; writes build/clips.npz, under 24 MB
#   tools/gpu.sh OUT [vowel|padded] [MINUTES]  train for 8 or MINUTES minutes; OUT gets weights, log and samples
#   tools/gpu.sh OUT vowel 1 --smoke           a trial with a tiny flow on a processor
#   tools/gpu.sh OUT notebook NAME             one notebook on the GPU; needs the study installed
#   tools/gpu.sh OUT benchmark                 benchmarks/flow.py on the GPU; needs the study installed
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
[ -x .venv/bin/python ] && [ -z "${PYTHON:-}" ] && python=.venv/bin/python
case "${2:-}" in
    notebook)
        mkdir -p "$1"
        VOWELFLOW_BUILD=$(cd "$1" && pwd) "$python" -m vowelstudy.cli study --only "$3"
        ;;
    benchmark)
        mkdir -p "$1"
        PYTHONPATH=src "$python" benchmarks/flow.py --device cuda
        cp benchmarks/flow.json "$1/"
        ;;
    *) PYTHONPATH=src exec "$python" tools/gpu.py "$@" ;;
esac
