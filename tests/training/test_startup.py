"""Training on a CPU must not pay for a compiler that it does not use; who does use it must get the real one."""

import subprocess
import sys
from pathlib import Path

import pytest

TRAIN = """
import sys
from decaylab.training.startup import postpone_compiler
postpone_compiler()
import torch
from decaylab.training.learner import Learner
from decaylab.spec import parse_spec
spec = parse_spec({
    "data": {"kind": "images", "image_size": 4, "train_examples": 8, "test_examples": 8},
    "model": {"kind": "mlp", "width": 4},
    "optimizer": {"name": "adamw", "learning_rate": 0.1},
    "steps": 3, "batch_size": 2, "evaluation": {"every": 3, "log_every": 1}, "seed": 0,
}, "test")
learner = Learner(spec, 10, torch.device("cpu"))
batch = torch.randn(2, 3, 4, 4), torch.tensor([1, 2])
for step in range(3):
    learner.backward(batch)
    learner.update(step, logged=True)
"""


def run(script: str) -> str:
    return subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout


def test_training_loads_neither_compiler_nor_tables(tmp_path: Path) -> None:
    """Half of the start-up of a short run, were they loaded: the price is asked and the tables written as well."""
    script = TRAIN + (
        "from pathlib import Path\n"
        "from decaylab.files import Layout\n"
        "from decaylab.training.cost.pricing import Pricer\n"
        "from decaylab.training.loop import Options, train\n"
        f"layout = Layout(Path({str(tmp_path)!r}))\n"
        "train(spec, layout, Options(price=Pricer(layout, 'cpu').price))\n"
        "unwanted = ('torch._dynamo.eval_frame', 'torch._inductor', 'sympy', 'pandas', 'torchvision')\n"
        "print([name for name in unwanted if name in sys.modules])\n"
    )
    run(script)  # counts the operations of this shape, which needs more of torch; they are kept for later
    script = script.replace('"seed": 0', '"seed": 1')
    assert run(script) == "[]\n"


def test_only_the_command_line_replaces_a_module() -> None:
    script = TRAIN.replace("postpone_compiler()\n", "")
    assert run(script + "print(type(sys.modules['torch._dynamo']).__name__)\n") == "module\n"
    program = (
        "import sys; sys.argv = ['decaylab', 'train', '--spec', 'missing.yaml', '--out', 'out']\n"
        "import decaylab.training.startup as startup\n"
        "startup.postpone_compiler = lambda: print('postponed')\n"
        "import decaylab.cli.train as command\n"
        "command.load_spec = lambda path: None\n"
        "from decaylab.cli import main\n"
        "import decaylab.training.runner as runner\n"
        "runner.in_order = lambda *_: sys.exit(0)\n"
        "main()\n"
    )
    assert run(program) == "postponed\n"


def test_the_real_module_takes_over_when_it_is_wanted() -> None:
    script = TRAIN + (
        "import torch._dynamo.config\n"
        "import torch._dynamo as dynamo\n"
        "print(dynamo.is_compiling(), dynamo is sys.modules['torch._dynamo'] is torch._dynamo)\n"
        "compiled = torch.compile(lambda x: x + 1, backend='eager', fullgraph=True)\n"
        "print(compiled(torch.ones(2)).tolist())\n"
        "learner.backward(batch); learner.update(2, logged=True)\n"
    )
    assert run(script) == "False True\n[2.0, 2.0]\n"


def test_steps_take_no_new_memory_from_the_kernel() -> None:
    """Were it given back after each step, each page would be asked for and cleared again: a thousand here."""
    script = TRAIN.replace('"image_size": 4', '"image_size": 16').replace(
        '{"kind": "mlp", "width": 4}', '{"kind": "preact_resnet", "width": 16, "blocks": [1, 1, 1]}'
    )
    script += (
        "import resource\n"
        "from decaylab.training.startup import keep_memory\n"
        "batch = torch.randn(32, 3, 16, 16), torch.randint(10, (32,))\n"
        "def faults():\n"
        "    for step in range(10):\n"
        "        learner.backward(batch); learner.update(step % 3, logged=False)\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "faults(); before = faults()\n"
        "print(keep_memory(), (faults() - before) / 10 < 100)\n"
    )
    script = script.replace("torch.randn(2, 3, 4, 4)", "torch.randn(2, 3, 16, 16)")
    kept, few = run(script).split()
    if kept == "False":
        pytest.skip("this system's allocator is not glibc's")
    assert few == "True"
