import json
import shutil

import numpy as np
import pytest
import torch

from vowelflow.corpus import InputError
from vowelflow.glow import Code, Glow, GlowConfig, Mix, dequantize, load_model, models_folder, random_code

SMALL = GlowConfig(levels=2, steps=2, hidden=(6, 8), side=8)


def unsettled(config, seed=0):
    """A flow whose parameters are all away from their starting values."""
    torch.manual_seed(seed)
    model = Glow(config)
    model.initialise(torch.rand(8, 1, config.side, config.side))
    for weight in model.parameters():
        weight.data += 0.1 * torch.randn_like(weight)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def small():
    return unsettled(SMALL)


@pytest.fixture(scope="module")
def pictures():
    return torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def test_log_determinant_is_that_of_the_jacobian(small):
    model = unsettled(SMALL).double()
    y = torch.rand(1, 1, 8, 8, dtype=torch.float64)

    def whole(flat):
        return torch.cat([s.flatten() for s in model(flat.view(1, 1, 8, 8))[0]])

    jacobian = torch.autograd.functional.jacobian(whole, y.flatten())
    assert model(y)[1].item() == pytest.approx(torch.linalg.slogdet(jacobian).logabsdet.item(), abs=1e-8)


@pytest.mark.parametrize("kind", ["mix", "coupling", "whiten"])
def test_log_determinant_of_every_layer_is_that_of_its_jacobian(kind):
    model = unsettled(SMALL).double()
    mix, coupling = model.levels[0][1]
    stays = torch.randn(1, 2, 3, 3, dtype=torch.float64)
    layer = {"mix": mix, "coupling": coupling, "whiten": lambda x: model.whiten[0](x, stays)}[kind]
    x = torch.randn(1, 2 if kind == "whiten" else 4, 3, 3, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda flat: layer(flat.view_as(x))[0].flatten(), x.flatten())
    stated = torch.as_tensor(layer(x)[1]).item()
    assert abs(stated) > 0.01
    assert stated == pytest.approx(torch.linalg.slogdet(jacobian).logabsdet.item(), abs=1e-8)


def test_the_density_of_a_small_flow_integrates_to_one():
    """A flow of pictures of 2 x 2 pixels, summed on a grid over all four."""
    model = unsettled(GlowConfig(levels=1, steps=3, hidden=(6,), side=2), seed=2).double()
    with torch.no_grad():
        drawn = model.inverse(torch.randn(20_000, 4, dtype=torch.float64)).flatten(1)
        spread = torch.linalg.cholesky(drawn.T.cov())
        steps = torch.arange(-9, 9.01, 0.5, dtype=torch.float64)  # in standard deviations
        total = 0.0
        for first in steps:
            grid = torch.cartesian_prod(first[None], steps, steps, steps) @ spread.T + drawn.mean(0)
            total += model.log_likelihood(grid.view(-1, 1, 2, 2)).exp().sum()
    assert (total * spread.diagonal().prod() * 0.5**4).item() == pytest.approx(1, abs=1e-3)


def test_likelihood_is_the_change_of_variables(small, pictures):
    code, gain = small.encode(pictures), small(small.encode(pictures).image)[1]
    normal = torch.distributions.Normal(0, 1).log_prob(code.flat).sum(1)
    assert torch.allclose(small.log_likelihood(code.image), normal + gain, atol=1e-3)
    bits = small.bits_per_dim(pictures, draws=1)
    assert torch.allclose(bits, 8 - (normal + gain) / np.log(2) / 64, atol=1e-5)


def test_decode_inverts_encode(small, pictures):
    code = small.encode(pictures)
    assert code.flat.shape == (5, 64) and (small.decode(code) - code.image).abs().max() < 1e-5
    precise = unsettled(SMALL).double()
    image = torch.rand(3, 1, 8, 8, dtype=torch.float64)
    flat = torch.cat([s.flatten(1) for s in reversed(precise(image)[0])], 1)
    assert (precise.inverse(flat) - image).abs().max() < 1e-12


def test_encode_inverts_decode_for_random_codes(small):
    flat = random_code(6, 64, seed=2)
    again = torch.cat([s.flatten(1) for s in reversed(small(small.decode(flat))[0])], 1)
    assert (again - flat).abs().max() < 1e-3


def test_batch_and_order_change_nothing(small, pictures):
    whole = small.encode(pictures, seed=3)
    order = [3, 0, 4, 2, 1]
    shuffled = small.encode(pictures[order], seed=3, batch=2)
    assert torch.equal(shuffled.image, whole.image[order])
    assert torch.allclose(shuffled.flat, whole.flat[order], atol=1e-5)
    assert not torch.equal(small.encode(pictures, seed=4).image, whole.image)
    assert torch.equal(random_code(2, 64, 5), random_code(4, 64, 5)[:2])


def test_the_noise_of_dequantization_stays_within_its_level(pictures):
    y = dequantize(pictures, seed=0)
    assert torch.equal((y * 256).floor(), (pictures * 256).floor())
    assert ((y * 256) % 1).std() == pytest.approx(12**-0.5, abs=0.03)


def test_first_batch_leaves_actnorm_normal():
    mix = Mix(4)
    x = 3 + 5 * torch.randn(16, 4, 8, 8)
    mix.initialise(x)
    shift, scale = mix.shift.detach(), mix.log_scale.detach().exp()
    normed = (x + shift[:, None, None]) * scale[:, None, None]
    assert normed.mean().abs() < 1e-5 and normed.std() == pytest.approx(1, abs=1e-2)


def test_scales_stay_bounded_whatever_the_network_says(small):
    coupling = unsettled(SMALL).levels[0][0][1]
    coupling.network[-1].bias.data += 1e4
    x = torch.randn(1, 4, 4, 4)
    y, gain = coupling(x)
    assert gain <= 2 * 2 * 16 + 1e-3 and torch.isfinite(y).all()


def test_top_code_is_a_quarter():
    assert Glow().top_size == 288 * 288 // 4
    assert Glow(GlowConfig(levels=3, steps=1, hidden=(2, 2, 2))).top_size == 288 * 288 // 4


def test_codes_are_vectors():
    one, other = (Code(random_code(3, 64, seed), 16, torch.zeros(3, 1, 8, 8)) for seed in (0, 1))
    assert torch.equal((one + 0.5 * (other - one)).flat, one.flat + 0.5 * (other.flat - one.flat))
    assert one.top.shape == (3, 16) and len(one[np.array([True, False, True])]) == 2 and len(one[1]) == 1
    assert one[[0, 2]].image.shape == (2, 1, 8, 8) and (one + other).image is None
    assert torch.equal(one.mean().flat, one.flat.mean(0, keepdim=True))


@pytest.mark.parametrize(
    "bad",
    [
        torch.rand(2, 8, 8),
        torch.rand(1, 1, 4, 8),
        torch.full((1, 1, 8, 8), 2.0),
        torch.full((1, 1, 8, 8), float("nan")),
    ],
)
def test_pictures_that_are_none_are_refused(small, bad):
    with pytest.raises(InputError, match="pictures"):
        small.encode(bad)


def test_codes_of_another_size_are_refused(small):
    with pytest.raises(InputError, match=r"codes are \(n, 64\), not \(2, 63\)"):
        small.decode(torch.zeros(2, 63))


def test_configurations_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="one width for each of 3 levels"):
        GlowConfig(levels=3, hidden=(8, 8))


REFERENCE = sorted(path.parent.name for path in models_folder().glob("*/config.json"))


@pytest.mark.parametrize("name", REFERENCE)
def test_reference_weights_are_exact_and_their_samples_finite(name, klatt):
    from vowelflow.spectrogram import images

    model, pictures = load_model(name), images(klatt.take(range(0, 80, 8)))
    code = model.encode(pictures, seed=1)
    assert (model.decode(code) - code.image).abs().max() < 1e-3
    assert torch.isfinite(model.sample(8, seed=1)).all()
    card = (models_folder() / name / "README.md").read_text()
    config = json.loads((models_folder() / name / "config.json").read_text())
    assert config["sha256"] in card and (models_folder() / name / "model.safetensors").stat().st_size < 8e6


def test_there_are_reference_weights():
    assert {"cpu-klatt", "cpu-timit-sample"} <= set(REFERENCE)


@pytest.fixture
def copied(tmp_path):
    return shutil.copytree(models_folder() / "cpu-klatt", tmp_path / "copy")


def test_altered_weights_are_refused(copied):
    weights = copied / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00\x01")
    with pytest.raises(InputError, match="is not the file that config.json names"):
        load_model(copied)


@pytest.mark.parametrize(
    "text, said", [("{", "not a model's configuration"), ('{"glow": {}}', "not a model's configuration")]
)
def test_a_damaged_configuration_is_refused(copied, text, said):
    (copied / "config.json").write_text(text)
    with pytest.raises(InputError, match=said):
        load_model(copied)


def test_weights_of_another_shape_are_refused(copied):
    config = json.loads((copied / "config.json").read_text())
    config["glow"]["steps"] += 1
    (copied / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="does not fit its config.json"):
        load_model(copied)


def test_an_unknown_model_is_named_with_those_there_are():
    with pytest.raises(InputError, match="no model 'cpu-martian'.*cpu-klatt"):
        load_model("cpu-martian")
