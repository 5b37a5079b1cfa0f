"""Training loops of ResNets by other people: around a DataLoader, the EPFL's, airbench's.

- DataLoader: our network in torch's default layout, SGD as torch chooses it, images prepared one by one, the loss
  fetched at every logging step. Once over a folder of JPEG files, which is how an image archive is unpacked; once over
  arrays in memory with torchvision's transforms and PIL, as its CIFAR10 has it; and once with the same arithmetic on
  tensors, which is kinder than what people write, and has no target.
- EPFL: their network from their file, trained as their `train.py` does: autocast to float16 with a scaler, SGD,
  channels_last, their average of the weights in every step. The script itself needs ffcv, aim and a GPU; batches come
  from a tensor on the device instead, which costs less than their loader. Without a GPU it runs in float32.
- airbench: its loader of batches on the GPU feeds our network in half precision and channels_last, with SGD and
  Nesterov momentum. Its own network is of another kind and another size, so its records are not comparable.
"""

from __future__ import annotations

import importlib.util
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.loops import Clock, counted

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


def network(spec: dict[str, Any], classes: int) -> Any:
    """Our network of a spec, for somebody else's loop."""
    from decaylab.models import build_model
    from decaylab.spec import parse_spec

    parsed = parse_spec(spec, "benchmark")
    return build_model(parsed.model, classes=classes, image_size=parsed.data.image_size, seed=0)


def training_images(spec: dict[str, Any]) -> tuple[Any, Any]:
    """The training images of a spec: uint8 [n, height, width, 3] and int64 labels [n], both arrays."""
    from decaylab.data.sources.procedural import World
    from decaylab.spec import parse_spec

    data = parse_spec(spec, "benchmark").data
    images, labels = World(data).split("train", data.train_examples)
    return images.numpy(), labels.numpy()


class ListedImages:
    """What torchvision's CIFAR10 is: arrays in memory, one picture at a time, through a transform."""

    def __init__(self, images: Any, labels: Any, transform: Callable[[Any], Any]) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(self.images[index]), int(self.labels[index])


def jpeg_files(images: Any, labels: Any, folder: Path) -> Any:
    """torchvision's ImageFolder over files written to `folder`/<class>/."""
    from PIL import Image
    from torchvision import datasets, transforms

    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / str(label) / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path, quality=95)
    return datasets.ImageFolder(folder, transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)]))


def pil_images(images: Any, labels: Any, folder: Path) -> Any:
    from PIL import Image
    from torchvision import transforms

    steps = [Image.fromarray, transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    return ListedImages(images, labels, transforms.Compose(steps))


def tensor_images(images: Any, labels: Any, folder: Path) -> Any:
    """The same without PIL and torchvision."""
    import torch

    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)

    def transform(image: Any) -> Any:
        return torch.from_numpy(image).permute(2, 0, 1).float().div(255).sub(mean).div(std)

    return ListedImages(images, labels, transform)


def run_dataloader(
    clock: Clock, spec: dict[str, Any], device: str, dataset: Callable[..., Any], folder: Path, workers: int
) -> None:
    """The loop of the tutorials."""
    import torch
    from torch.nn.functional import cross_entropy
    from torch.utils.data import DataLoader

    images, labels = training_images(spec)
    model = network(spec, int(labels.max()) + 1).to(device)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=spec["optimizer"]["learning_rate"], weight_decay=spec["decay"]["weight_decay"]
    )
    loader = DataLoader(
        dataset(images, labels, folder),
        batch_size=spec["batch_size"],
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        pin_memory=device == "cuda",
        persistent_workers=workers > 0,
    )
    half = spec.get("precision") in ("float16", "bfloat16")
    model.train()
    with counted(clock):
        for step in itertools.count():
            if step % len(loader) == 0:
                batches = iter(loader)
            inputs, targets = (part.to(device, non_blocking=True) for part in next(batches))
            with torch.autocast(device, torch.bfloat16, enabled=half):
                loss = cross_entropy(model(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % spec["evaluation"]["log_every"] == 0:
                print(step, loss.item())


def run_epfl(clock: Clock, checkout: Path, spec: dict[str, Any], device: str) -> None:
    """Their network and average in a step that does what theirs does, in its order."""
    import copy

    import torch

    sys.dont_write_bytecode = True
    theirs = import_file(checkout / "overparameterized_nets/models/get_models.py")
    images, labels = training_images(spec)
    on_gpu = device == "cuda"
    inputs = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float().div(255)
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    targets = torch.from_numpy(labels).to(device)
    model = theirs.PreActResNet18(
        int(labels.max()) + 1, spec["model"]["width"], cuda=on_gpu, bn_flag=True, learnable_bn=True
    )
    model = model.to(device, memory_format=torch.channels_last)
    average = copy.deepcopy(model).eval()
    optimizer = torch.optim.SGD(
        model.parameters(), lr=spec["optimizer"]["learning_rate"], weight_decay=spec["decay"]["weight_decay"]
    )
    clock.weights = sum(weight.numel() for weight in model.parameters())
    scaler = torch.amp.GradScaler(device, enabled=on_gpu)
    loss_function = torch.nn.CrossEntropyLoss()
    batch = spec["batch_size"]
    model.train()
    for _ in itertools.count():
        for which in torch.randperm(len(targets), device=device).split(batch):
            if len(which) < batch:
                continue
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device, torch.float16, enabled=on_gpu):
                loss = loss_function(model(inputs[which]), targets[which])
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            average.moving_average(model, 0.999)
            clock()


def run_airbench(clock: Clock, checkout: Path, spec: dict[str, Any], folder: Path) -> None:
    """Batches from their loader, flipped and moved, into our network in half precision."""
    import torch
    from torch.nn.functional import cross_entropy

    sys.dont_write_bytecode = True
    images, labels = training_images(spec)
    # where their loader looks for the file that it would otherwise make of a download
    folder.mkdir(exist_ok=True)
    classes = [str(label) for label in range(int(labels.max()) + 1)]
    stored = {"images": torch.from_numpy(images), "labels": torch.from_numpy(labels), "classes": classes}
    torch.save(stored, folder / "train.pt")
    theirs = import_file(checkout / "airbench/utils.py")
    loader = theirs.CifarLoader(
        str(folder), train=True, batch_size=spec["batch_size"], aug={"flip": True, "translate": 2}
    )
    model = network(spec, len(classes)).cuda().half().to(memory_format=torch.channels_last)
    for part in model.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.float()
    model.compile()
    optimizer = torch.optim.SGD(
        model.parameters(), lr=spec["optimizer"]["learning_rate"], momentum=0.9, nesterov=True, fused=True
    )
    model.train()
    with counted(clock):
        while True:
            for inputs, targets in loader:
                cross_entropy(model(inputs), targets).backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)


def import_file(path: Path) -> Any:
    """A module of a checkout, without its package: those import what need not be installed."""
    description = importlib.util.spec_from_file_location(f"peer_{path.stem}", path)
    module = importlib.util.module_from_spec(description)
    description.loader.exec_module(module)
    return module
