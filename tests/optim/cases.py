"""Weights of every group, their gradients, and the optimizers that move them."""

import torch

from decaylab.spec import GROUPS

LARGE = {group: 1000 + 37 * index for index, group in enumerate(GROUPS)}
SGDS = {
    "plain": {},
    "momentum": {"momentum": 0.9},
    "dampening": {"momentum": 0.9, "dampening": 0.2},
    "nesterov": {"momentum": 0.9, "nesterov": True},
}
SIZES = {"embedding": 3, "attention": 2, "mlp": 4, "convolution": 2, "norm": 2, "bias": 3, "head": 2}


def weights(dtype=torch.float32, scale=1.0, seed=0, sizes=SIZES):
    generator = torch.Generator().manual_seed(seed)
    return {
        group: (scale * torch.randn(size, generator=generator, dtype=torch.float64)).to(dtype).requires_grad_()
        for group, size in sizes.items()
    }


def optimizer_of(parameters, make, **options):
    return make([{"params": list(parameters.values()), "groups": list(parameters)}], **options)


def set_gradients(parameters, seed):
    """The gradient depends on the weights, so that a difference, once there, grows."""
    generator = torch.Generator().manual_seed(seed)
    for weight in parameters.values():
        noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64).to(weight.dtype)
        weight.grad = weight.detach().sin() + noise
