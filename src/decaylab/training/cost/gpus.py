"""Known GPUs, to predict what a run would take on one that this machine lacks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GPU:
    """Peaks are dense FLOP/s from the vendor's data sheet."""

    name: str
    bfloat16: float
    tf32: float
    float32: float
    memory_bytes: float
    utilisation: float = 0.4
    """fraction of the peak that a transformer reaches; assumed, not measured"""
    convolutions: float = 0.15
    """the same for convolutional networks at batch 128; assumed"""
    launch_seconds: float = 5e-6
    """per kernel, where the host is the bottleneck"""


GPUS = (
    GPU("NVIDIA H200", 989e12, 495e12, 67e12, 141e9),
    GPU("NVIDIA H100", 989e12, 495e12, 67e12, 80e9),
    GPU("NVIDIA A100", 312e12, 156e12, 19.5e12, 80e9),
    GPU("NVIDIA RTX 4090", 165e12, 83e12, 83e12, 24e9),
    GPU("NVIDIA RTX 3090", 71e12, 36e12, 36e12, 24e9),
)
