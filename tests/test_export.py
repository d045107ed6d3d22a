import sys

import numpy as np
import pytest
import torch

from vowelflow.base import InputError
from vowelflow.checkpoint import load_model
from vowelflow.convolution import InvertibleConvolution
from vowelflow.export import _store_as_float16, export
from vowelflow.glow import Glow, GlowConfig
from vowelflow.initialise import initialise
from vowelflow.latent import random_code


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    made = Glow(GlowConfig(16, 16, squeeze=((2, 4), (2, 1)), steps=2, hidden=(6, 8)))
    initialise(made, torch.rand(8, 1, 16, 16))
    for weight in made.parameters():
        weight.data += 0.1 * torch.randn_like(weight)
    return made.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    return folder, export(model, folder), export(model, folder / "half", half=True)


def session(path):
    onnxruntime = pytest.importorskip("onnxruntime")
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("count", [1, 5])
def test_onnx_decodes_and_encodes_as_torch_does(model, exported, count):
    folder, differences, _ = exported
    code = random_code(count, 256, seed=9)
    wanted = model.decode(code)
    (image,) = session(folder / "decode.onnx").run(None, {"code": code.numpy()})
    assert np.abs(image - wanted.numpy()).max() < 1e-3 and max(differences.values()) < 1e-3
    (again,) = session(folder / "encode.onnx").run(None, {"image": image})
    assert np.abs(again - code.numpy()).max() < 1e-2


def test_half_the_size_is_nearly_the_same(model, exported):
    folder, _, differences = exported
    sizes = [path.stat().st_size for path in (folder / "decode.onnx", folder / "half" / "decode.onnx")]
    assert sizes[1] < sizes[0] and 1e-6 < differences["decode"] < 0.05


@pytest.mark.long
def test_reference_weights_can_be_exported(tmp_path):
    onnx = pytest.importorskip("onnx")
    model = load_model("speech")
    assert max(export(model, tmp_path).values()) < 1e-3
    whole, half = tmp_path / "decode.onnx", tmp_path / "half.onnx"
    graph = onnx.load(whole)
    _store_as_float16(graph)  # as ``half`` does, without a second minute of tracing
    onnx.save(graph, half)
    assert whole.stat().st_size < 20e6 and half.stat().st_size < 0.6 * whole.stat().st_size
    code = {"code": random_code(2, model.config.size, seed=9).numpy()}
    one, other = (session(path).run(None, code)[0] for path in (whole, half))
    assert 0 < np.abs(one - other).max() < 0.2


def test_nothing_is_solved_at_run_time(exported):
    onnx = pytest.importorskip("onnx")
    for name in ("encode", "decode"):
        graph = onnx.load(exported[0] / f"{name}.onnx").graph
        products = [node for node in graph.node if node.op_type in ("MatMul", "Gemm")]
        constant = {weight.name for weight in graph.initializer}
        assert products and all(node.input[1] in constant for node in products)  # all weights are numbers
        assert graph.input[0].type.tensor_type.shape.dim[0].dim_param  # any batch


def test_without_the_packages_it_says_how_to_get_them(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(InputError, match=r"onnxscript is not installed; pip install 'vowelflow\[export\]'"):
        export(model, tmp_path)


def test_the_model_is_left_as_it_was(model, exported):
    assert not model.training
    assert all(isinstance(step[0], InvertibleConvolution) for steps in model.levels for step in steps)
