"""Known GPUs, to predict what a run would take on one that this machine lacks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GPU:
    """Peaks are dense FLOP/s from the vendor's data sheet, links bytes/s in one direction."""

    name: str
    bfloat16: float
    tf32: float
    float32: float
    memory_bytes: float
    link: float
    """to the other GPUs of its machine"""
    utilisation: float = 0.4
    """fraction of the peak that a transformer reaches; assumed, not measured"""
    convolutions: float = 0.15
    """the same for convolutional networks at batch 128; assumed"""
    launch_seconds: float = 5e-6
    """per kernel, where the host is the bottleneck"""
    link_utilisation: float = 0.7
    """fraction of the link's peak that an average over GPUs reaches; assumed"""

    def averaging_seconds(self, parameters: int, gpus: int) -> float:
        """To average the gradients of a step over several GPUs, in float32 around a ring."""
        sent = 4 * parameters * 2 * (gpus - 1) / gpus
        return sent / (self.link * self.link_utilisation)


GPUS = (
    GPU("NVIDIA H200", 989e12, 495e12, 67e12, 141e9, 450e9),
    GPU("NVIDIA H100", 989e12, 495e12, 67e12, 80e9, 450e9),
    GPU("NVIDIA A100", 312e12, 156e12, 19.5e12, 80e9, 300e9),
    GPU("NVIDIA RTX 4090", 165e12, 83e12, 83e12, 24e9, 32e9),
    GPU("NVIDIA RTX 3090", 71e12, 36e12, 36e12, 24e9, 32e9),
)
