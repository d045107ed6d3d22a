"""Export: a flow -> ONNX files that encode and decode without torch.

The 1x1 convolutions and their inverses are solved here, once, so what is left in a file is
convolutions and arithmetic, for any batch.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from .corpus import InputError, save_atomically
from .glow import Glow, random_code

TOLERANCE = {False: 1e-3, True: 0.2}  # of a pixel or a code number, with weights in float32, in float16


class Encoder(nn.Module):
    """Dequantized pictures ``(batch, 1, side, side)`` -> whole codes ``(batch, side^2)``, coarsest scale first."""

    def __init__(self, flow: Glow):
        super().__init__()
        self.flow = flow

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([scale.flatten(1) for scale in reversed(self.flow(image)[0])], 1)


class Decoder(nn.Module):
    """Whole codes ``(batch, side^2)`` -> pictures ``(batch, 1, side, side)``."""

    def __init__(self, flow: Glow):
        super().__init__()
        self.flow = flow

    def forward(self, code: torch.Tensor) -> torch.Tensor:
        return self.flow.inverse(code)


class _Solved(nn.Module):
    """A ``Mix`` whose weights and inverse weights are numbers."""

    def __init__(self, mix):
        super().__init__()
        weight, bias, self.log_determinant = (value.detach() for value in mix.weights())
        inverse, inverse_bias = (value.detach() for value in mix.inverse_weights())
        for name, value in (("weight", weight), ("inverse_weight", inverse)):
            self.register_buffer(name, value[:, :, None, None].clone())
        self.register_buffer("bias", bias.clone())
        self.register_buffer("inverse_bias", inverse_bias.clone())

    def forward(self, x):
        return F.conv2d(x, self.weight, self.bias), self.log_determinant

    def inverse(self, y):
        return F.conv2d(y, self.inverse_weight, self.inverse_bias)


def export(model: Glow, folder: Path, half: bool = False) -> dict[str, float]:
    """Write ``encode.onnx`` and ``decode.onnx`` into ``folder`` and compare them with torch.

    Args:
        half: keep weights as float16, for half of the size; they are computed with in float32.

    Returns:
        Of each file, the greatest difference from torch, over three codes and their pictures.

    Raises:
        InputError: the packages of the extra "export" are not installed; a file says something else than torch.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  torch.onnx needs it
    except ImportError as error:
        raise InputError(f"{error.name} is not installed; pip install 'vowelflow[export]'") from None
    flow = deepcopy(model).cpu().eval().requires_grad_(False)
    for steps in flow.levels:
        for step in steps:
            step[0] = _Solved(step[0])
    code = random_code(3, model.config.side**2, seed=0)
    with torch.no_grad():
        image = flow.inverse(code)
    differences, inputs = {}, {"encode": "image", "decode": "code"}
    for name, module, given in (("encode", Encoder(flow).eval(), image), ("decode", Decoder(flow).eval(), code)):
        with torch.no_grad():
            wanted = module(given).numpy()
        program = torch.onnx.export(
            module,
            (given,),
            dynamo=True,
            input_names=[inputs[name]],
            output_names=["code" if name == "encode" else "image"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            external_data=False,
            verbose=False,
        )
        graph = program.model_proto
        if half:
            _halve(graph)
        path = save_atomically(Path(folder) / f"{name}.onnx", lambda path: onnx.save(graph, path))  # noqa: B023
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        for count in (1, 3):
            (got,) = session.run(None, {inputs[name]: given[:count].numpy()})
            differences[name] = float(np.abs(got - wanted[:count]).max())
            if not differences[name] < TOLERANCE[half]:
                raise InputError(f"{path} differs from torch by {differences[name]:.2g}; the flow is too steep for it")
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
