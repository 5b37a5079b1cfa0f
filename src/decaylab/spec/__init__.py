"""The RunSpec: everything that decides the numbers of one training."""

from decaylab.spec.base import Strict
from decaylab.spec.data import Data, ImageData, TextData
from decaylab.spec.decay import GROUPS, Decay, DecaySchedule, Group
from decaylab.spec.models import GPT, MLP, VGG, Model, PreActResNet, ViT
from decaylab.spec.run import (
    SGD,
    AdamW,
    Drop,
    Evaluation,
    Follow,
    NormControl,
    Optimizer,
    Part,
    Precision,
    RunSpec,
    Schedule,
    Start,
    dump_spec,
    load_spec,
    parse_spec,
)

__all__ = [
    "GPT",
    "GROUPS",
    "MLP",
    "SGD",
    "VGG",
    "AdamW",
    "Data",
    "Decay",
    "DecaySchedule",
    "Drop",
    "Evaluation",
    "Follow",
    "Group",
    "ImageData",
    "Model",
    "NormControl",
    "Optimizer",
    "Part",
    "PreActResNet",
    "Precision",
    "RunSpec",
    "Schedule",
    "Start",
    "Strict",
    "TextData",
    "ViT",
    "dump_spec",
    "load_spec",
    "parse_spec",
]
