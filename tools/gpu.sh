#!/usr/bin/env bash
# One command for a rented GPU. It needs Python with torch, numpy and safetensors, and no network.
#
#   tools/gpu.sh pack --root LIBRISPEECH       first, where the study is installed: writes build/clips.npz, under 24 MB
#   tools/gpu.sh OUT [vowel|padded] [MINUTES]  trains for 8 minutes, or so many; weights, log and samples go to OUT
#   tools/gpu.sh OUT vowel 1 --smoke           the same with a tiny flow, on a processor, to try it
#   tools/gpu.sh OUT notebook NAME             one notebook on the GPU; needs the study installed
#   tools/gpu.sh OUT benchmark                 benchmarks/flow.py on the GPU; needs the study installed
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
[ -x .venv/bin/python ] && [ -z "${PYTHON:-}" ] && python=.venv/bin/python
case "${2:-}" in
    notebook)
        mkdir -p "$1"
        VOWELFLOW_BUILD=$(cd "$1" && pwd) "$python" -m vowelflow.cli study --only "$3"
        ;;
    benchmark)
        mkdir -p "$1"
        PYTHONPATH=src "$python" benchmarks/flow.py --device cuda
        cp benchmarks/flow.json "$1/"
        ;;
    *) PYTHONPATH=src exec "$python" tools/gpu.py "$@" ;;
esac
