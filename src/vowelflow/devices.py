"""Devices: the processes, precision and threads that a training runs with."""

from __future__ import annotations

import logging
import os
import platform
import re
import shutil
import sys
import time
import timeit
import warnings
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from itertools import product
from pathlib import Path

import torch

from .base import InputError
from .glow import Glow
from .profiles import Profile

PRECISION = {False: "float32", True: "bfloat16"}


def start_fabric(devices: int, nodes: int, profile: Profile):
    """Lightning Fabric with these devices; its processes are started."""
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", "Grad strides do not match")  # harmless: 1x1 kernels
    from lightning_fabric import Fabric
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    parts, tasks = profile.accumulate, os.environ.get("WORLD_SIZE", os.environ.get("SLURM_NTASKS", "1"))
    if min(devices, nodes, parts) < 1 or profile.batch % (devices * nodes * parts):
        raise InputError(
            f"a batch of {profile.batch} pictures cannot be shared by {devices} devices on {nodes} nodes"
            f" in {parts} parts each; choose numbers whose product divides it"
        )
    if tasks not in ("1", str(devices * nodes)):
        raise InputError(
            f"{tasks} tasks were started, for {devices} devices on {nodes} nodes; start one task,"
            " or as many as there are devices on all nodes"
        )
    accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    strategy = "ddp" if devices * nodes > 1 else "auto"
    try:
        fabric = Fabric(accelerator=accelerator, strategy=strategy, devices=devices, num_nodes=nodes)
        fabric.launch()
    except (MisconfigurationException, RuntimeError, ValueError, TypeError) as error:
        raise InputError(f"devices={devices}, nodes={nodes} are not available here: {error}") from None
    return fabric


def compile_where_it_pays(model: Glow) -> None:
    """Compile the steps of each level on a GPU, if the C compiler that Triton needs is installed."""
    if next(model.parameters()).is_cuda and (shutil.which("cc") or shutil.which("gcc")):
        model.through = torch.compile(model.through, fullgraph=True)


def choose_arithmetic(model: Glow, autocast: bool | None, checkpoint: int, batch: Callable, fabric) -> dict:
    """Choose the precision, unless ``autocast`` says it, and the number of threads by what is faster here.

    A GPU takes bfloat16. On a processor, bfloat16 is tried if there are instructions for it, and several
    threads if OMP_NUM_THREADS does not set their number. Each candidate computes the gradient of ``batch()``
    three times. After five seconds no more are tried.

    Returns:
        The precision, the number of threads, and seconds for each candidate.
    """
    if fabric.device.type != "cpu":
        return {"precision": PRECISION[autocast is not False]}
    most = torch.get_num_threads()
    fixed = most == 1 or "OMP_NUM_THREADS" in os.environ or fabric.world_size > 1
    precisions = [autocast] if autocast is not None else [False, True] if has_bfloat16() else [False]
    candidates = list(product(precisions, [most] if fixed else [1, most]))
    seconds, start = {}, time.monotonic()
    if len(candidates) > 1:
        y, trial = batch(), deepcopy(model)

        def gradient(autocast):
            trial.log_likelihood(y, autocast, checkpoint).mean().backward()

        for autocast, threads in candidates:
            if time.monotonic() - start > 5 * (1 - 1 / len(candidates)):
                break
            torch.set_num_threads(threads)
            run = partial(gradient, autocast)
            seconds[autocast, threads] = min(timeit.repeat(run, repeat=3, number=1))
    autocast, threads = fabric.broadcast(min(seconds, key=seconds.get, default=candidates[0]))
    torch.set_num_threads(threads)
    tried = {f"{PRECISION[one]}, {count} threads": round(seconds[one, count], 4) for one, count in seconds}
    if fabric.is_global_zero:
        measured = f"seconds per step: {tried or 'not measured'}"
        print(f"training in {PRECISION[autocast]} with {threads} threads; {measured}", file=sys.stderr)
    return {"precision": PRECISION[autocast], "threads": threads, "seconds_a_step": tried}


def has_bfloat16() -> bool:
    """Whether the processor has instructions for bfloat16; without them it is slower than float32."""
    return bool(re.search(r"\b(avx512_bf16|amx_bf16|bf16)\b", _cpuinfo()))


def _cpuinfo() -> str:
    """Linux's description of the processors; empty elsewhere."""
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""


def processor_name() -> str:
    """The processor's name, and the number of threads that compute."""
    found, threads = re.search(r"^model name\s*:\s*(.+)$", _cpuinfo(), re.M), torch.get_num_threads()
    return f"{found[1] if found else platform.machine()}, {threads} thread{'s' * (threads > 1)}"
