"""GPUs whose speed is known: what a run would take on one that is not here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GPU:
    """A known GPU. Peaks are dense, from the vendors' data sheets, in FLOP/s."""

    name: str
    bfloat16: float
    tf32: float
    float32: float
    memory_bytes: float
    utilisation: float = 0.4
    """of the peak, in large matrix products with everything around them; assumed, until it is measured"""
    convolutions: float = 0.15
    """the same for networks of convolutions at batch 128; assumed"""
    launch_seconds: float = 5e-6
    """per kernel, when the host is the limit"""


GPUS = (
    GPU("NVIDIA H200", 989e12, 495e12, 67e12, 141e9),
    GPU("NVIDIA H100", 989e12, 495e12, 67e12, 80e9),
    GPU("NVIDIA A100", 312e12, 156e12, 19.5e12, 80e9),
    GPU("NVIDIA RTX 4090", 165e12, 83e12, 83e12, 24e9),
    GPU("NVIDIA RTX 3090", 71e12, 36e12, 36e12, 24e9),
)
