"""A wide coupling network on a processor: the same numbers as its convolutions, in tiles that fit the cache.

A picture has few channels before and after a coupling network and hundreds within it. Computed
layer by layer, those hundreds go to memory and back five times, and the convolutions from and to a
few channels run at a tenth of the processor's speed. But once the neighbours of a pixel are
gathered before the first convolution, and scattered after the last, every layer is a matrix
product over pixels, and a tile of pixels can go through all of them while it is in the cache.
Of what lies within, only the second hidden layer is kept for the gradient.
"""

from __future__ import annotations

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

TILE = 2**21  # bytes of a tile's hidden layer: a few of them fit the second and third level of caches
WIDE = 256  # hidden channels from which matrix products beat convolutions,
LARGE = 2**23  # where a hidden layer has at least so many numbers and fits no cache
NEIGHBOURS = [(row, column) for row in range(3) for column in range(3)]


def pays(network: torch.nn.Sequential, x: torch.Tensor) -> bool:
    """Whether ``tiled`` is faster than ``network``: measured on processors, false elsewhere."""
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    hidden, pixels = network[0].out_channels, x[:, 0].numel()
    return hidden >= WIDE and hidden * pixels >= LARGE


def tiled(network: torch.nn.Sequential, x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """``network(x)`` for a coupling network, computed in ``dtype``.

    Args:
        network: convolutions of 3x3, 1x1 and 3x3 with ReLUs between.
        x: ``(batch, channels, height, width)``, best in channels-last memory.

    Returns:
        ``(batch, channels out, height, width)`` in the type of ``x``, channels last; it can be
        differentiated once.
    """
    first, _, middle, _, last = network
    given = (x, first.weight, first.bias, middle.weight, middle.bias, last.weight, last.bias)
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given)
    return _Tiled.apply(*given, dtype, keep)


def _rows(near: torch.Tensor, hidden: int) -> int:
    """Pixels of a tile: as many as ``TILE`` allows, spread evenly."""
    most = max(1, TILE // (hidden * near.element_size()))
    return -(-len(near) // -(-len(near) // most))


def gather(pixels: torch.Tensor) -> torch.Tensor:
    """``(batch, height, width, c)`` -> each pixel's 3x3 neighbourhood, ``(batch height width, 9 c)``."""
    _, height, width, channels = pixels.shape
    padded = F.pad(pixels, (0, 0, 1, 1, 1, 1))
    near = [padded[:, row : row + height, column : column + width] for row, column in NEIGHBOURS]
    return torch.cat(near, -1).view(-1, 9 * channels)


def scatter(near: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """The adjoint of ``gather``: neighbourhoods add up to pixels of ``shape``, in at least float32."""
    batch, height, width, channels = shape
    total = torch.promote_types(near.dtype, torch.float32)
    padded = near.new_zeros(batch, height + 2, width + 2, channels, dtype=total)
    near = near.to(total).view(batch, height, width, 9, channels)
    for place, (row, column) in enumerate(NEIGHBOURS):
        padded[:, row : row + height, column : column + width] += near[..., place, :]
    return padded[:, 1:-1, 1:-1]


def _matrices(first, middle, last, dtype) -> list[torch.Tensor]:
    """The three convolutions as matrices ``(numbers in, numbers out)`` of a pixel.

    The last one scatters what the convolution would gather, so its neighbourhood is turned around.
    """
    hidden = len(middle)
    shaped = (
        first.permute(2, 3, 1, 0).reshape(-1, hidden),
        middle[:, :, 0, 0].t(),
        last.flip(2, 3).permute(1, 2, 3, 0).reshape(hidden, -1),
    )
    return [matrix.to(dtype).contiguous() for matrix in shaped]


class _Tiled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, first, first_bias, middle, middle_bias, last, last_bias, dtype, keep):
        pixels = x.permute(0, 2, 3, 1)
        into, through, out_of = _matrices(first, middle, last, dtype)
        biases = first_bias.to(dtype), middle_bias.to(dtype)
        near = gather(pixels.to(dtype))
        count, hidden = len(near), len(middle)
        tile = _rows(near, hidden)
        one, two = near.new_empty(tile, hidden), near.new_empty(count if keep else tile, hidden)
        result = near.new_empty(count, out_of.shape[1])
        for start in range(0, count, tile):
            part = near[start : start + tile]
            size = len(part)
            second = two[start : start + size] if keep else two[:size]
            torch.addmm(biases[0], part, into, out=one[:size]).relu_()
            torch.addmm(biases[1], one[:size], through, out=second).relu_()
            torch.mm(second, out_of, out=result[start : start + size])
        ctx.dtype = dtype
        if keep:
            ctx.save_for_backward(x, first, first_bias, middle, last, two)
        result = scatter(result, (*pixels.shape[:3], len(last))) + last_bias
        return result.to(x.dtype).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        x, first, first_bias, middle, last, two = ctx.saved_tensors
        pixels, gradient = x.permute(0, 2, 3, 1), gradient.permute(0, 2, 3, 1)
        matrices = into, through, out_of = _matrices(first, middle, last, ctx.dtype)
        bias = first_bias.to(ctx.dtype)
        near, behind = gather(pixels.to(ctx.dtype)), gather(gradient.to(ctx.dtype))
        count, hidden = two.shape
        tile = _rows(near, hidden)
        one, g_one, g_two = (near.new_empty(tile, hidden) for _ in range(3))
        g_near = torch.empty_like(near)
        # tiles add up in the precision of the weights, whatever they are computed in
        g_into, g_through, g_out_of = (first.new_zeros(matrix.shape) for matrix in matrices)
        g_first_bias, g_middle_bias = first.new_zeros(2, hidden)
        masked = torch.ops.aten.threshold_backward.grad_input
        for start in range(0, count, tile):
            part, result = near[start : start + tile], behind[start : start + tile]
            size, second = len(part), two[start : start + tile]
            h, g1, g2 = one[:size], g_one[:size], g_two[:size]
            torch.addmm(bias, part, into, out=h).relu_()
            torch.mm(result, out_of.t(), out=g2)
            masked(g2, second, 0, grad_input=g2)
            torch.mm(g2, through.t(), out=g1)
            masked(g1, h, 0, grad_input=g1)
            torch.mm(g1, into.t(), out=g_near[start : start + size])
            g_into += part.t() @ g1
            g_through += h.t() @ g2
            g_out_of += second.t() @ result
            g_first_bias += g1.sum(0)
            g_middle_bias += g2.sum(0)
        channels, out = pixels.shape[3], len(last)
        return (
            scatter(g_near, pixels.shape).to(x.dtype).permute(0, 3, 1, 2),
            g_into.view(3, 3, channels, hidden).permute(3, 2, 0, 1),
            g_first_bias,
            g_through.t()[:, :, None, None],
            g_middle_bias,
            g_out_of.view(hidden, 3, 3, out).permute(3, 0, 1, 2).flip(2, 3),
            gradient.sum((0, 1, 2)),
            None,
            None,
        )
