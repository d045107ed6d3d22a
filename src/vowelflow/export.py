"""Export: a flow -> ONNX files that encode and decode without torch.

The 1x1 convolutions and their inverses are solved here, once, so what is left in a file is
convolutions and arithmetic, for any batch.
"""

from __future__ import annotations

import logging
import warnings
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from .corpus import InputError, save_atomically
from .glow import Glow
from .latent import random_code

# of a pixel and of a number of a code, with weights in float32 and in float16
TOLERANCE = {False: {"decode": 1e-3, "encode": 1e-3}, True: {"decode": 0.05, "encode": 0.1}}


class Encoder(nn.Module):
    """Dequantized pictures ``(batch, 1, side, frames)`` -> whole codes ``(batch, size)``, coarsest scale first."""

    def __init__(self, flow: Glow):
        super().__init__()
        self.flow = flow

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.flow.flat(image)


class Decoder(nn.Module):
    """Whole codes ``(batch, size)`` -> pictures ``(batch, 1, side, frames)``."""

    def __init__(self, flow: Glow):
        super().__init__()
        self.flow = flow

    def forward(self, code: torch.Tensor) -> torch.Tensor:
        return self.flow.inverse(code)


class _Solved(nn.Module):
    """A ``Mix`` whose weights and inverse weights are numbers."""

    def __init__(self, mix):
        super().__init__()
        for name, value in zip(("weight", "bias"), mix.weights()):
            self.register_buffer(name, value.clone())
        for name, value in zip(("inverse_weight", "inverse_bias"), mix.inverse_weights()):
            self.register_buffer(name, value.clone())

    def inverse(self, y):
        return F.linear(y, self.inverse_weight, self.inverse_bias)


def _through(steps, x, *_):
    """What steps make of ``x``, without log-determinants."""
    for solved, coupling in steps:
        x, _ = coupling(F.linear(x, solved.weight, solved.bias))
    return x, 0.0


def export(model: Glow, folder: Path, half: bool = False) -> dict[str, float]:
    """Write ``encode.onnx`` and ``decode.onnx`` into ``folder`` and compare them with torch.

    Args:
        half: keep weights as float16, for half of the size; they are computed with in float32.

    Returns:
        Of each file, the greatest difference from torch, over three codes and their pictures.

    Raises:
        InputError: the packages of the extra "export" are not installed; a file would say something else than torch.
    """
    # it would warn that torchvision, of which nothing is used here, is not installed
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  torch.onnx needs it
    except ImportError as error:
        raise InputError(f"{error.name} is not installed; pip install 'vowelflow[export]'") from None
    Path(folder).mkdir(parents=True, exist_ok=True)
    flow, solved = (deepcopy(model).cpu().eval().requires_grad_(False) for _ in range(2))
    for steps in solved.levels:
        for step in steps:
            step[0] = _Solved(step[0])
    solved.through = _through
    code = random_code(3, model.config.size, seed=0)
    image = flow.decode(code)
    differences = {}
    for name, coder, given, takes, gives in (
        ("encode", Encoder, image, "image", "code"),
        ("decode", Decoder, code, "code", "image"),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch's own, about torch
            program = torch.onnx.export(
                coder(solved).eval(),
                (given,),
                dynamo=True,
                input_names=[takes],
                output_names=[gives],
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                external_data=False,
                verbose=False,
            )
        graph = program.model_proto
        if half:
            _halve(graph)
        session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
        with torch.no_grad():
            wanted = coder(flow)(given).numpy()
        got = [session.run(None, {takes: given[:count].numpy()})[0] for count in (1, len(given))]
        differences[name] = max(float(np.abs(part - wanted[: len(part)]).max()) for part in got)
        if not differences[name] < TOLERANCE[half][name]:
            raise InputError(
                f"{name}.onnx would differ from torch by {differences[name]:.2g}, and is not written"
                + ("; try without half" if half else "")
            )
        save_atomically(Path(folder) / f"{name}.onnx", lambda path: onnx.save(graph, path))  # noqa: B023
    return differences


def _halve(graph) -> None:
    """Keep large float32 weights as float16, with a cast back to float32 before they are used."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for weight in graph.graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype == np.float32 and values.size > 64:
            name = weight.name
            weight.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_half"))
            casts.append(helper.make_node("Cast", [weight.name], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.graph.node]
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
