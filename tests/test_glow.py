import hashlib
import json
import math
import multiprocessing
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch._dynamo.backends.debugging import aot_eager

from vowelflow.base import InputError
from vowelflow.checkpoint import file_hash, glow_config, load_model, models_folder
from vowelflow.convolution import InvertibleConvolution, factors, weights_of
from vowelflow.glow import SILENCE, Coupling, Glow, GlowConfig, gaussian, squeeze, stretch, unstretch
from vowelflow.initialise import fit_last_prior, initialise, initialise_actnorm
from vowelflow.latent import Code, random_code
from vowelflow.spectrogram import dequantize
from vowelstudy.evaluation import allocation

SMALL = GlowConfig(8, 8, squeeze=((4, 2), (1, 2)), steps=2, hidden=(6, 8), prior=5, tail=1.0, axes=3)
FIRST = replace(  # as the first edition's flows
    SMALL, squeeze=((2, 2), (2, 2)), prior=0, tail=None, frequency_bias=False, axes=0, last_kernel=3
)
SIGMOID = replace(FIRST, scale="sigmoid")
CONFIGS = pytest.mark.parametrize("config", [SMALL, FIRST, SIGMOID], ids=["tails", "first", "sigmoid"])


def unsettled(config, seed=0):
    """A flow whose parameters are all away from their starting values."""
    torch.manual_seed(seed)
    model = Glow(config)
    initialise(model, torch.rand(8, 1, config.side, config.frames))
    for weight in model.parameters():
        weight.data += 0.1 * torch.randn_like(weight)
    if config.axes:
        model.axes.vectors.copy_(torch.linalg.qr(torch.randn_like(model.axes.vectors).T)[0].T)
        for buffer in (model.axes.log_scale, model.axes.mean, model.axes.log_deviation):
            buffer.copy_(0.5 * torch.randn_like(buffer))
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def small():
    return unsettled(SMALL)


@pytest.fixture(scope="module")
def pictures():
    return torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def test_the_last_prior_is_a_mean_and_a_log_scale(pictures):
    model = unsettled(FIRST)
    model.top.zero_()
    coarsest = model(pictures)[0][-1]
    model.top[0] = 0.25  # the mean
    assert torch.allclose(model(pictures)[0][-1], coarsest - 0.25, atol=1e-6)
    model.top[1] = 4 * math.atanh(math.log(2) / 4)  # the log-scale, before it is bounded
    scales, log_determinants = model(pictures)
    assert torch.allclose(scales[-1], (coarsest - 0.25) / 2, atol=1e-6)
    assert torch.allclose(model.inverse(model.flat(pictures)), pictures, atol=1e-4)
    model.top.zero_()
    lost = (model(pictures)[1][-1] - log_determinants[-1])[0].sum()
    assert lost.item() == pytest.approx(math.prod(model.shapes[-1]) * math.log(2), rel=1e-4)


@CONFIGS
def test_log_determinant_is_that_of_the_jacobian(config):
    model = unsettled(config).double()
    y = torch.rand(1, 1, 8, 8, dtype=torch.float64)

    def whole(flat):
        return torch.cat([s.flatten() for s in model(flat.view(1, 1, 8, 8))[0]])

    jacobian = torch.autograd.functional.jacobian(whole, y.flatten())
    assert sum(part.sum() for part in model(y)[1]).item() == pytest.approx(
        torch.linalg.slogdet(jacobian).logabsdet.item(), abs=1e-8
    )


@CONFIGS
@pytest.mark.parametrize("kind", ["convolution", "coupling", "whiten"])
def test_log_determinant_of_every_layer_is_that_of_its_jacobian(kind, config):
    model = unsettled(config).double()
    convolution, coupling = model.levels[0][1]
    channels, rows, columns = 2 * model.shapes[0][0], *model.shapes[0][1:]
    stays = torch.randn(1, rows, columns, channels // 2, dtype=torch.float64)
    layer = {
        "convolution": lambda x: model.through(
            [(convolution, lambda x, _: (x, x.new_zeros(x.shape[:3])))], x, False
        ),
        "coupling": coupling,
        "whiten": lambda x: model.whiten[0](x, stays),
    }[kind]
    x = torch.randn(1, rows, columns, channels // (2 if kind == "whiten" else 1), dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(
        lambda flat: layer(flat.view_as(x))[0].flatten(), x.flatten()
    )
    stated = torch.as_tensor(layer(x)[1]).expand(1, rows, columns).sum().item()
    assert abs(stated) > 0.01
    assert stated == pytest.approx(torch.linalg.slogdet(jacobian).logabsdet.item(), abs=1e-8)


@pytest.mark.parametrize("tail", [None, 0.5])
def test_the_density_of_a_small_flow_integrates_to_one(tail):
    """A flow of pictures of 2 x 2 pixels, summed on a grid over all four."""
    model = unsettled(GlowConfig(2, 2, squeeze=((2, 2),), steps=3, hidden=(6,), tail=tail), seed=2).double()
    with torch.no_grad():
        drawn = model.inverse(torch.randn(20_000, 4, dtype=torch.float64)).flatten(1)
        spread = torch.linalg.cholesky(drawn.T.cov())
        steps = torch.arange(-9, 9.01, 0.5, dtype=torch.float64)  # in standard deviations
        total = 0.0
        for first in steps:
            grid = torch.cartesian_prod(first[None], steps, steps, steps) @ spread.T + drawn.mean(0)
            total += model.log_likelihood(grid.view(-1, 1, 2, 2)).exp().sum()
    # where tails begin, the density jumps, and a grid sums jumps less exactly
    assert (total * spread.diagonal().prod() * 0.5**4).item() == pytest.approx(1, abs=5e-3 if tail else 1e-3)


def test_likelihood_is_the_change_of_variables(small, pictures):
    code = small.encode(pictures)
    gain = sum(part.sum((1, 2)) for part in small(code.image)[1])
    normal = torch.distributions.Normal(0, 1).log_prob(code.flat).sum(1)
    assert torch.allclose(small.log_likelihood(code.image), normal + gain, atol=1e-3)
    bits = small.bits_per_dim(pictures, draws=1)
    assert torch.allclose(bits, 8 - (normal + gain) / np.log(2) / 64, atol=1e-5)


def test_what_pixels_are_allocated_is_the_bits_of_the_picture(small, pictures):
    found = allocation(small, pictures, seed=3)
    assert found.shape == (5, 8, 8)
    assert torch.allclose(found.mean((1, 2)), small.bits_per_dim(pictures, draws=1, seed=3), atol=1e-4)
    assert found.std() > 0.05


def test_pictures_need_not_be_square():
    model = unsettled(GlowConfig(16, 8, squeeze=((2, 2), (2, 2)), steps=2, hidden=(6, 8)))
    pictures = torch.rand(3, 1, 16, 8)
    code = model.encode(pictures)
    assert code.flat.shape == (3, 128) and (model.decode(code) - code.image).abs().max() < 1e-5
    assert torch.allclose(
        allocation(model, pictures).mean((1, 2)), model.bits_per_dim(pictures, draws=1), atol=1e-4
    )
    assert model.sample(2).shape == (2, 1, 16, 8)
    with pytest.raises(InputError, match=r"pictures are \(n, 1, 16, 8\), at least one, not \(3, 1, 8, 16\)"):
        model.encode(pictures.transpose(2, 3))


def test_shifts_do_not_run_away():
    """Whatever reaches a coupling, its network sees no more than ``input_bound``."""
    torch.manual_seed(0)
    coupling = unsettled(replace(FIRST, squeeze=((2, 2),), steps=1, hidden=(6,))).levels[0][0][1]
    far = torch.randn(2, 4, 4, 2).sign()
    _, shift = coupling.scale_and_shift(1e3 * far, False)
    _, further = coupling.scale_and_shift(1e6 * far, False)
    assert torch.allclose(shift, further, atol=1e-3) and shift.abs().max() > 0.01
    near = 0.1 * far  # and what is usual is left as it is
    assert torch.allclose(
        coupling.scale_and_shift(near, False)[1], coupling.network(near).chunk(2, -1)[0], atol=1e-3
    )


@pytest.mark.parametrize("tail", [None, 0.7])
def test_tails_have_slope_one_and_the_inverse_is_exact(tail):
    x = torch.linspace(-3, 3, 601, dtype=torch.float64)
    for log_scale in torch.tensor([-1.7, 1.3]).double():
        y, gain = stretch(x, log_scale.expand(601), tail)
        assert torch.allclose(unstretch(y, log_scale, tail), x, atol=1e-12) and (y.diff() > 0).all()
        slope = y.diff() / x.diff()
        inner = (x.abs() < (tail or 9) - 0.02)[1:]
        assert (
            torch.allclose(slope[inner], log_scale.exp().double().expand(inner.sum()))
            and (gain[1:][inner] == log_scale).all()
        )
        if tail:
            outer = (x[1:].abs() > 0.72) & (x[:-1].abs() > 0.72)
            assert (
                torch.allclose(slope[outer], torch.ones(outer.sum()).double())
                and (gain[1:][outer] == 0).all()
            )


def test_an_inverse_with_tails_does_not_explode():
    """What is far from the data comes back far, but not multiplied at every step."""
    far = 30 * random_code(4, 64)
    wild = [unsettled(replace(SMALL, steps=12, tail=tail, coupling=2.0)) for tail in (1.0, None)]
    for model in wild:
        for _, coupling in model.levels[0]:
            coupling.network[-1].bias.data -= 3  # shrinks by e^-1.8, so that the inverse enlarges
    tails, none = (model.inverse(far).abs().max().item() for model in wild)
    assert tails < 1e3 < 1e6 < none


def test_an_untrained_flow_with_tails_has_principal_axes():
    """Couplings that do nothing yet, yet codes without correlation: of channels at one place, at every level's start."""
    pictures = torch.rand(64, 1, 8, 4, generator=torch.Generator().manual_seed(0)).cumsum(
        2
    )  # rows that correlate
    model = Glow(GlowConfig(8, 4, squeeze=((4, 2), (1, 2)), steps=3, hidden=(4, 4), frequency_bias=False))
    initialise(model, pictures)
    x, _ = model.through(model.levels[0], squeeze((pictures - SILENCE).movedim(1, -1), 4, 2), False)
    channels = x.flatten(0, 2)
    correlation = (channels.T @ channels / len(channels)).abs()
    assert torch.allclose(correlation, torch.eye(8), atol=1e-3)
    mean = pictures.view(64, 2, 4, 2, 2).mean((2, 4)).flatten()  # of a block, which is most of its variance
    assert abs(torch.corrcoef(torch.stack([mean, channels[:, 0]]))[0, 1]) > 0.5


def test_the_last_prior_is_fitted_to_the_mean_deviation_and_axes_of_codes():
    config = GlowConfig(8, 8, squeeze=((2, 2), (2, 2), (1, 1)), steps=1, hidden=(4, 4, 4), prior=0, axes=3)
    torch.manual_seed(0)
    given = torch.rand(4000, 1, 8, 8)
    given = given + 0.3 * torch.randn(4000, 1, 1, 1) * torch.linspace(-1, 1, 8)[:, None]  # all share a tilt
    model = Glow(config)
    initialise(model, given[:200])
    model.top.data[0] += 0.3
    before = model.log_likelihood(given).mean()
    fit_last_prior(model, given[:2].split(1))
    assert torch.equal(model.log_likelihood(given).mean(), before)  # two pictures tell nothing
    fit_last_prior(model, given[:3500].split(500))
    assert len(model.axes.mean) == 16  # the coarsest scale, though it is more than an eighth of the code
    coarsest = model.flat(given)[:, :16].detach()
    assert model.log_likelihood(given[3500:]).mean() > before.item() + 0.5  # of pictures it has not seen, too
    assert coarsest.mean(0) == pytest.approx(
        0, abs=0.05
    ) and coarsest.square().mean().item() == pytest.approx(1, abs=0.02)
    vectors = model.axes.vectors
    assert torch.allclose(vectors @ vectors.T, torch.eye(3, dtype=torch.float64), atol=1e-12)
    assert (coarsest @ vectors.float().T).square().mean(0) == pytest.approx(1, abs=0.15)
    assert model.axes.log_scale[0] < -0.2  # the tilt
    scale = model.axes.log_scale.clone()
    fit_last_prior(model, given[:3500].split(500))
    assert torch.allclose(model.axes.log_scale, scale, atol=1e-4)  # a second time it is the same


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


def test_first_batch_leaves_actnorm_of_unit_size_and_silence_at_nothing():
    convolution = InvertibleConvolution(4)
    x = 3 + 5 * torch.randn(16, 8, 8, 4)
    initialise_actnorm(convolution, x)
    normed = x * factors([convolution])[3][0].detach().exp() + convolution.shift.detach()
    assert normed.square().mean() == pytest.approx(1, abs=1e-2)
    model = Glow(FIRST)
    initialise(model, torch.rand(4, 1, 8, 8))
    silence = torch.full((1, 1, 8, 8), SILENCE)
    assert model.flat(silence).abs().max() < 1e-6


def test_a_flow_is_initialised_once_and_stays_so_when_saved_and_loaded(small, tmp_path):
    from safetensors.torch import load_file, save_file

    y = torch.rand(4, 1, 8, 8)
    before = small.log_likelihood(y)
    initialise(small, 3 + 5 * torch.rand(8, 1, 8, 8))
    assert torch.equal(small.log_likelihood(y), before)
    save_file(small.state_dict(), tmp_path / "weights.safetensors")
    again = Glow(SMALL)
    again.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert again.initialised and torch.equal(again.log_likelihood(y), before)
    initialise(again, torch.rand(8, 1, 8, 8))
    assert torch.equal(again.log_likelihood(y), before)


def started(queue):
    """What a process of a distributed run starts training from, as a hash of its bytes."""
    from vowelflow.klatt import klatt_corpus
    from vowelflow.training import PROFILES, untrained_flow

    torch.set_num_threads(1)
    weights = untrained_flow(klatt_corpus(speakers=8, tokens=2), PROFILES["smoke"], seed=3).state_dict()
    queue.put(hashlib.sha256(b"".join(value.numpy().tobytes() for value in weights.values())).hexdigest())


def test_every_process_starts_from_the_same_flow(klatt):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [context.Process(target=started, args=(queue,)) for _ in range(2)]
    for process in processes:
        process.start()
    one, other = queue.get(timeout=120), queue.get(timeout=120)
    for process in processes:
        process.join()
    assert one == other


def test_the_convolution_is_well_conditioned_whatever_was_learned():
    torch.manual_seed(0)
    for size in (0.1, 1.0, 30.0):
        convolution = InvertibleConvolution(16)
        for weight in (convolution.lower, convolution.upper, convolution.log_diagonal):
            weight.data = size * torch.randn_like(weight)
        weight = weights_of([convolution.double()])[0][
            0
        ]  # actnorm, which is folded in, still multiplies by 1
        assert torch.linalg.cond(weight) < 185
        inverse = convolution.inverse_weights()[0]
        assert torch.allclose(inverse @ weight, torch.eye(16, dtype=torch.float64), atol=1e-12)


def test_an_empty_channel_of_the_first_batch_does_not_make_actnorm_infinite():
    convolution = InvertibleConvolution(4)
    initialise_actnorm(convolution, torch.zeros(2, 4, 4, 4))
    weight, _, log_determinant = weights_of([convolution])
    assert weight.isfinite().all() and log_determinant.isfinite().all()
    assert convolution.inverse_weights()[0].isfinite().all()


@pytest.mark.parametrize("scale, highest", [("tanh", 2.0), ("sigmoid", 0.0)])
@pytest.mark.parametrize("bias", [-1e4, 1e4])
def test_scales_stay_bounded_whatever_the_network_says(scale, highest, bias):
    coupling = Coupling(4, 6, (4, 4), replace(FIRST, scale=scale))
    coupling.network[-1].bias.data += bias
    log_scale, _ = coupling.scale_and_shift(torch.randn(1, 4, 4, 2), False)
    assert -2 - 1e-4 <= log_scale.min() and log_scale.max() <= highest + 1e-4
    x = torch.randn(1, 4, 4, 4)
    assert torch.isfinite(coupling(x)[0]).all() and torch.isfinite(coupling.inverse(x)).all()


def gradients(model, likelihood, y, *given):
    return torch.autograd.grad(likelihood(y, *given).sum(), list(model.parameters()))


@CONFIGS
@pytest.mark.parametrize("checkpoint", [1, 2, 3])
def test_checkpointing_changes_no_gradient(config, checkpoint):
    model, y = unsettled(replace(config, steps=4)).requires_grad_(True), torch.rand(2, 1, 8, 8)
    kept, recomputed = (gradients(model, model.log_likelihood, y, False, n) for n in (0, checkpoint))
    assert all(torch.equal(one, other) for one, other in zip(kept, recomputed, strict=True))


def test_checkpointing_keeps_next_to_nothing():
    model, y = (
        unsettled(GlowConfig(32, 32, squeeze=((2, 2),), steps=16, hidden=(32,), axes=0)).requires_grad_(True),
        torch.rand(1, 1, 32, 32),
    )

    def kept(checkpoint):
        sizes = {}
        note = lambda tensor: sizes.setdefault(tensor.data_ptr(), tensor.numel()) and tensor  # noqa: E731
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            likelihood = model.log_likelihood(y, False, checkpoint)
        assert likelihood.requires_grad
        return sum(sizes.values())

    assert kept(4) < kept(0) / 20


@pytest.mark.parametrize("given", [(False, 0), (True, 2)], ids=["plain", "autocast and checkpoints"])
def test_it_compiles_once_a_level_without_a_graph_break_to_the_same_gradients(given):
    torch._dynamo.reset()
    model, y = unsettled(replace(SIGMOID, steps=6)).requires_grad_(True), torch.rand(2, 1, 8, 8)
    plain = gradients(model, model.log_likelihood, y, *given)
    graphs = []
    backend = lambda module, inputs: graphs.append(1) or aot_eager(module, inputs)  # noqa: E731
    model.through = torch.compile(model.through, fullgraph=True, backend=backend)
    traced = gradients(model, model.log_likelihood, y, *given)
    assert all(torch.allclose(one, other, atol=1e-4) for one, other in zip(plain, traced, strict=True))
    assert (
        len(graphs) <= 3
    )  # of two levels; the very first picture asks for no gradient, which is a case of its own


def test_top_code_is_a_quarter():
    assert Glow(replace(GlowConfig(), steps=1)).top_size == 256 * 96 // 4
    shape = GlowConfig(288, 288, squeeze=((2, 2),) * 3, steps=1, hidden=(2, 2, 2))
    assert Glow(shape).top_size == 288 * 288 // 4


def test_codes_are_vectors():
    one, other = (Code(random_code(3, 64, seed), 16, torch.zeros(3, 1, 8, 8)) for seed in (0, 1))
    assert torch.equal((one + 0.5 * (other - one)).flat, one.flat + 0.5 * (other.flat - one.flat))
    assert one.top.shape == (3, 16) and len(one[np.array([True, False, True])]) == 2 and len(one[1]) == 1
    assert one[[0, 2]].image.shape == (2, 1, 8, 8) and (one + other).image is None


def test_float32_is_not_rounded_to_tf32_on_a_gpu():
    assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32


def test_configurations_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="one entry for each level"):
        GlowConfig(hidden=(8, 8))
    with pytest.raises(InputError, match="must be multiples of 256 and 96"):
        GlowConfig(side=100)
    shape = {
        "squeeze": [[2, 2]],
        "hidden": [4],
        "steps": 1,
        "side": 8,
        "frames": 8,
        "prior": 0,
        "rows": True,
        "last": 3,
    }
    old = glow_config({"glow": shape})
    assert (
        old.hidden == (4,) and old.steps == (1,) and old.axes == 0
    )  # before there were axes, and steps by level
    assert old.frequency_bias and old.last_kernel == 3 and old.input_bound == 8  # older names
    for bad in ({"steps": 0}, {"steps": "1"}, {"side": 0}, {"hidden": [0]}, {"squeeze": [[2, 0]]}):
        with pytest.raises(InputError, match="whole numbers of at least 1"):
            glow_config({"glow": shape | bad})
    for bad in ({"scale": "exp"}, {"tail": -1.0}, {"reach": 0}):
        with pytest.raises(InputError, match="tanh or sigmoid"):
            glow_config({"glow": shape | bad})


REFERENCE = sorted(path.parent.name for path in models_folder().glob("*/config.json"))


@pytest.mark.long
@pytest.mark.parametrize("name", REFERENCE)
def test_reference_weights_are_exact_and_stable(name, klatt):
    from vowelstudy.evaluation import exactness, stability

    model = load_model(name)
    exact = exactness(model, klatt.take(range(0, 80, 8)))
    assert max(exact["float32"], exact["float32_reordered"]) < 1e-4 and exact["float64"] < 1e-9
    stable = stability(model, klatt, samples=8, lines=2)
    assert [stable[kind]["pictures"] for kind in ("samples", "lines", "steps")] == [8, 22, 240]
    assert all(stable[kind]["not_finite"] == 0 for kind in ("samples", "lines", "steps"))
    assert stable["lines"]["largest"] < 100 and 1 < stable["worst_condition"] < 10


@pytest.mark.parametrize("name", REFERENCE)
def test_cards_are_of_these_weights_and_show_what_is_asked_of_a_flow(name):
    folder = models_folder() / name
    config, metrics = (json.loads((folder / f"{part}.json").read_text()) for part in ("config", "metrics"))
    assert config["sha256"] == metrics["sha256"] and config["sha256"] in (folder / "README.md").read_text()
    assert (folder / "model.safetensors").stat().st_size < 9e6
    exact, stable = metrics["exactness"], metrics["stability"]
    assert exact["float32"] < 1e-4 and exact["float32_reordered"] < 1e-4 and exact["float64"] < 1e-9
    looked_at = (exact["tokens"], stable["samples"]["pictures"], stable["lines"]["pictures"])
    assert all(found >= wanted for found, wanted in zip(looked_at, (500, 1_000, 1_100)))
    assert all(stable[kind]["not_finite"] == 0 for kind in ("samples", "lines", "steps"))
    assert stable["samples"]["outside_share"] < 3e-3
    assert stable["lines"]["outside_share"] < 1e-3
    assert max(stable[kind]["largest"] for kind in ("samples", "lines", "steps")) < 100
    assert stable["tokens_of"] == "test speakers"


def test_there_are_reference_weights():
    assert "speech" in REFERENCE


@pytest.fixture(scope="module")
def tiny(klatt, tmp_path_factory):
    """A folder with a tiny flow."""
    from vowelflow.training import PROFILES, train

    folder = tmp_path_factory.mktemp("models") / "tiny"
    train(klatt, folder, replace(PROFILES["smoke"], iterations=1))
    return folder


@pytest.fixture
def copied(tiny, tmp_path):
    return shutil.copytree(tiny, tmp_path / "copy")


def test_altered_weights_are_refused(copied):
    weights = copied / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00\x01")
    with pytest.raises(InputError, match="is not the file that config.json names"):
        load_model(copied)


@pytest.mark.parametrize(
    "text, said",
    [
        ("{", "not a model's configuration"),
        ('{"glow": {}}', "not a model's configuration"),
        ("[" * 100_000, "not a model's configuration"),
        ('{"glow": {"hidden": [4], "levels": 1, "scale": "exp"}}', "fetch it again"),
    ],
)
def test_a_damaged_configuration_is_refused(copied, text, said):
    (copied / "config.json").write_text(text)
    with pytest.raises(InputError, match=said):
        load_model(copied)


def test_weights_of_another_shape_are_refused(copied):
    config = json.loads((copied / "config.json").read_text())
    config["glow"]["steps"][-1] += 1
    (copied / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="does not fit its config.json"):
        load_model(copied)


@pytest.mark.parametrize("name, value", [("steps", [1, 10**9]), ("hidden", [4, 10**7])])
def test_no_memory_is_asked_for_that_the_weights_do_not_fill(copied, name, value):
    config = json.loads((copied / "config.json").read_text())
    config["glow"][name] = value
    (copied / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="config.json asks for .* too much for .*model.safetensors"):
        load_model(copied)


def test_an_unknown_model_is_named_with_those_there_are():
    with pytest.raises(InputError, match="no model 'martian'.*speech, speech-50k"):
        load_model("martian")


def test_weights_that_are_none_are_refused_even_with_the_right_hash(copied):
    weights = copied / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config | {"sha256": file_hash(weights)}))
    with pytest.raises(InputError, match="does not fit its config.json"):
        load_model(copied)


def test_a_model_is_found_by_name_where_training_leaves_it(copied, tmp_path, monkeypatch):
    monkeypatch.setenv("VOWELFLOW_BUILD", str(tmp_path / "build"))
    shutil.copytree(copied, tmp_path / "build/models/own")
    assert load_model("own", models=tmp_path / "models").config == load_model(copied).config


def test_pixels_of_every_frequency_start_at_mean_0_and_deviation_1():
    tilt = torch.linspace(0.8, 0.2, 8)[:, None]
    pictures = (
        tilt + 0.2 * tilt * torch.randn(32, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    ).clamp(0, 1)
    model = Glow(SMALL)
    initialise(model, pictures)
    mean, log_scale = gaussian(model.spectrum)
    assert torch.allclose(mean.flatten(), tilt.flatten() - SILENCE, atol=0.05)
    assert torch.allclose(log_scale.exp().flatten(), 0.2 * tilt.flatten(), rtol=0.15)
    padded = torch.cat([pictures[..., :4], torch.full((32, 1, 8, 4), SILENCE)], 3)
    model = Glow(SMALL)
    initialise(model, padded)
    assert (model.spectrum[0] == 0).all()  # padding stays at 0
