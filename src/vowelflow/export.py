"""Export: a flow -> ONNX files that encode and decode without torch, for any batch size.

The weights of the 1x1 convolutions and of their inverses are computed once, here: the files contain only
convolutions and arithmetic.
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

from .base import InputError, save_atomically
from .convolution import InvertibleConvolution, weights_of
from .glow import Glow
from .latent import random_code

# Largest difference of a pixel or of a number of a code, for weights in float32 and in float16.
TOLERANCE = {False: {"decode": 1e-3, "encode": 1e-3}, True: {"decode": 0.05, "encode": 0.2}}


class _Coder(nn.Module):
    """A flow as a module that decodes or encodes."""

    def __init__(self, flow: Glow, decodes: bool):
        super().__init__()
        self.flow, self.decodes = flow, decodes

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return self.flow.inverse(given) if self.decodes else self.flow.flat(given)


class _Solved(nn.Module):
    """An invertible convolution with constant weights and inverse weights."""

    def __init__(self, convolution: InvertibleConvolution):
        super().__init__()
        weight, bias, _ = (part[0] for part in weights_of([convolution]))
        solved = (weight, bias, *convolution.inverse_weights())
        for name, value in zip(("weight", "bias", "inverse_weight", "inverse_bias"), solved):
            self.register_buffer(name, value.clone())

    def inverse(self, y: torch.Tensor) -> torch.Tensor:
        return F.linear(y, self.inverse_weight, self.inverse_bias)


def _through(steps, x: torch.Tensor, autocast: bool) -> tuple[torch.Tensor, float]:
    """``glow.through`` without log-determinants."""
    for solved, coupling in steps:
        x, _ = coupling(F.linear(x, solved.weight, solved.bias))
    return x, 0.0


def export(model: Glow, folder: Path, half: bool = False) -> dict[str, float]:
    """Write ``encode.onnx`` and ``decode.onnx`` into ``folder``; return their largest differences from torch.

    With ``half``, weights are stored as float16, for half of the size; arithmetic stays in float32.

    Raises:
        InputError: the packages of the extra "export" are missing, or a file differs too much from torch.
    """
    # Without this, torch warns that torchvision, which is not used, is not installed.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  torch.onnx needs it
    except ImportError as error:
        raise InputError(f"{error.name} is not installed; pip install 'vowelflow[export]'") from None
    Path(folder).mkdir(
        parents=True, exist_ok=True
    )  # a path that cannot be one is told before the minutes of work
    flow, solved = (deepcopy(model).cpu().eval().requires_grad_(False) for _ in range(2))
    for steps in solved.levels:
        for step in steps:
            step[0] = _Solved(step[0])
    solved.through = _through
    code = random_code(3, model.config.size, seed=0)
    image, differences = flow.decode(code), {}
    for name, given, takes, gives in (("encode", image, "image", "code"), ("decode", code, "code", "image")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch's own, about torch
            graph = torch.onnx.export(
                _Coder(solved, name == "decode").eval(), (given,), dynamo=True, input_names=[takes],
                output_names=[gives], dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                external_data=False, verbose=False,
            ).model_proto  # fmt: skip
        _strip(graph)
        if half:
            _store_as_float16(graph)
        session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
        wanted = _Coder(flow, name == "decode")(given).numpy()
        results = [session.run(None, {takes: given[:count].numpy()})[0] for count in (1, len(given))]
        difference = max(float(np.abs(part - wanted[: len(part)]).max()) for part in results)
        if not difference < TOLERANCE[half][name]:
            remedy = "; try without half" if half else ""
            raise InputError(f"{name}.onnx differs from torch by {difference:.2g}; not written{remedy}")
        save_atomically(Path(folder) / f"{name}.onnx", lambda path: onnx.save(graph, path))  # noqa: B023
        differences[name] = difference
    return differences


def _strip(graph) -> None:
    """Remove where each node comes from in the source, and the shapes of all intermediate results: a megabyte."""
    del graph.graph.value_info[:]
    for node in graph.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")


def _store_as_float16(graph) -> None:
    """Store large float32 weights as float16, and cast them back to float32 where they are used."""
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
