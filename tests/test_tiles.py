import pytest
import torch

from vowelflow import tiles
from vowelflow.glow import Coupling, Glow, GlowConfig
from vowelflow.tiles import gather, pays, scatter, tiled


def network(channels, hidden, seed=0):
    torch.manual_seed(seed)
    made = Coupling(channels, hidden).network
    for weight in made.parameters():
        weight.data = 0.3 * torch.randn_like(weight)
    return made


@pytest.fixture
def small_tiles(monkeypatch):
    """Tiles of a few pixels, so that small pictures have many, and the last is smaller."""
    monkeypatch.setattr(tiles, "TILE", 600)


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_tiles_say_what_the_convolutions_say(small_tiles, memory):
    made = network(4, 10)
    x = torch.randn(3, 2, 5, 6).to(memory_format=memory)
    with torch.no_grad():
        assert torch.allclose(tiled(made, x, torch.float32), made(x), atol=1e-5)
    assert tiled(made, x, torch.float32).shape == (3, 4, 5, 6)


def test_gradients_are_those_of_the_convolutions(small_tiles):
    made = network(4, 10).double()
    x = torch.randn(2, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    weights = [x, *made.parameters()]
    wanted = torch.autograd.grad(made(x).square().sum(), weights)
    found = torch.autograd.grad(tiled(made, x, torch.float64).square().sum(), weights)
    assert all(torch.allclose(one, other, atol=1e-10) for one, other in zip(wanted, found, strict=True))


def test_bfloat16_is_as_near_as_autocast_is(small_tiles):
    made, x = network(4, 64), torch.randn(2, 2, 8, 8)
    exact = made(x)
    with torch.autocast("cpu", torch.bfloat16):
        autocast = made(x)
    mixed = tiled(made, x, torch.bfloat16)
    assert mixed.dtype == torch.float32
    assert 0 < (mixed - exact).norm() < 2 * (autocast.float() - exact).norm()
    mixed.sum().backward()
    assert all(weight.grad.dtype == torch.float32 for weight in made.parameters())


def test_scatter_is_the_adjoint_of_gather():
    pixels, near = torch.randn(2, 4, 5, 3).double(), torch.randn(40, 27).double()
    assert (gather(pixels) * near).sum().item() == pytest.approx((pixels * scatter(near, pixels.shape)).sum().item())


def test_a_flow_in_tiles_is_the_same_flow(small_tiles, monkeypatch):
    torch.manual_seed(0)
    model, y = Glow(GlowConfig(levels=2, steps=2, hidden=(6, 8), side=8)).double(), torch.rand(3, 1, 8, 8).double()
    model.initialise(y)
    for weight in model.parameters():
        weight.data += 0.1 * torch.randn_like(weight)

    def likelihood_and_gradients():
        likelihood = model.log_likelihood(y)
        return likelihood.detach(), torch.autograd.grad(likelihood.sum(), list(model.parameters()))

    wanted = likelihood_and_gradients()
    monkeypatch.setattr(tiles, "WIDE", 1)
    monkeypatch.setattr(tiles, "LARGE", 1)
    calls = []
    monkeypatch.setattr("vowelflow.glow.tiled", lambda *given: calls.append(1) or tiled(*given))
    found = likelihood_and_gradients()
    assert len(calls) == 4 and torch.allclose(wanted[0], found[0], atol=1e-9)
    assert all(torch.allclose(one, other, atol=1e-8) for one, other in zip(wanted[1], found[1], strict=True))


def test_tiles_are_for_wide_networks_of_large_pictures():
    wide, narrow = network(4, 512), network(4, 128)
    assert pays(wide, torch.empty(1, 2, 144, 144)) and not pays(wide, torch.empty(1, 2, 72, 72))
    assert pays(wide, torch.empty(4, 2, 72, 72)) and not pays(narrow, torch.empty(8, 2, 144, 144))
    assert not pays(wide, torch.empty(1, 2, 144, 144, device="meta"))
