"""Several GPUs, and a cluster: what jobs ask for, and a real Slurm where there is one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from decaylab.errors import InputError
from decaylab.files import Layout, read_json
from decaylab.replication import plan_runs, select
from decaylab.training.kernels import LAUNCH_BOUND
from decaylab.workflow import gpus, requests
from decaylab.workflow.jobs import partition
from decaylab.workflow.plan import Plan
from tests.training.cases import IMAGES, TEXT, spec
from tests.workflow import local_slurm

ROOT = Path(__file__).resolve().parents[2]
STEPS = 10_000


@pytest.fixture
def held(monkeypatch) -> list:
    monkeypatch.setattr(gpus, "_held", kept := [])
    monkeypatch.setattr(gpus, "POLL_SECONDS", 0.01)
    yield kept
    for file in kept:
        file.close()


def test_no_two_processes_get_one_gpu(held, monkeypatch, tmp_path):
    taken = []
    for _ in range(2):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a, GPU-b")
        taken.append(gpus.take_gpu("cuda", tmp_path))
        assert os.environ["CUDA_VISIBLE_DEVICES"] == taken[-1]
    assert sorted(taken) == ["GPU-a", "GPU-b"]
    # a third one waits until a process ends, which closes its file
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b")
    third = threading.Thread(target=lambda: taken.append(gpus.take_gpu("auto", tmp_path)))
    third.start()
    time.sleep(0.1)
    assert third.is_alive()
    held[taken.index("GPU-b")].close()
    third.join(10)
    assert taken[2] == "GPU-b"


def test_a_process_that_wants_several_gpus_waits_for_all_of_them(held, monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    assert gpus.take_gpu("cuda", tmp_path) == "0"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    assert gpus.take_gpus("cuda", 2, tmp_path) == os.environ["CUDA_VISIBLE_DEVICES"] == "1,2"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    taken = []
    waiting = threading.Thread(target=lambda: taken.append(gpus.take_gpus("auto", 3, tmp_path)))
    waiting.start()
    for file in held[:]:
        time.sleep(0.05)
        assert not taken
        file.close()
    waiting.join(10)
    assert set(taken[0].split(",")) == {"0", "1", "2"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    with pytest.raises(InputError, match="4 GPUs are asked for, and this machine shows 3"):
        gpus.take_gpus("cuda", 4, tmp_path)


@pytest.mark.parametrize(
    ("device", "visible"), [("cpu", "0,1"), ("cuda:1", "0,1"), ("cuda", "3"), ("auto", ""), ("auto", "-1")]
)
def test_without_a_choice_nothing_is_taken(held, monkeypatch, tmp_path, device, visible):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus.take_gpu(device, tmp_path) is None
    assert os.environ["CUDA_VISIBLE_DEVICES"] == visible
    assert not held


def test_the_gpus_of_a_machine_are_its_device_files(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name in ("nvidia10", "nvidia2", "nvidia0", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    assert gpus.visible_gpus(tmp_path) == ["0", "2", "10"]


@pytest.mark.parametrize("scale", ["smoke", "paper"])
def test_every_job_asks_for_time_and_memory(scale):
    jobs = partition(plan_runs(select(ROOT, "headline"), scale).values(), 1)
    for job in jobs:
        asked = requests.minutes(job, gpus=1, threads=1)
        assert requests.LEAST_MINUTES < asked <= requests.MOST_MINUTES
        assert requests.minutes(job, gpus=0, threads=1) >= asked
        memory = requests.megabytes(job, gpus=1)
        assert memory({}, 1) > requests.PROCESS_BYTES / 1e6
        assert memory({}, 3) == 3 * memory({}, 1), "a job that was killed for memory gets more"
        assert requests.megabytes(job, gpus=8)({}, 1) == pytest.approx(8 * memory({}, 1), rel=1e-3)
    assert max(requests.minutes(job, 1, 1) for job in jobs) == requests.MOST_MINUTES or scale == "smoke"


def test_a_run_gets_the_gpus_that_its_batch_divides_among_and_that_its_steps_keep_busy():
    assert requests.BUSY_FLOPS == LAUNCH_BOUND
    gpt2 = {"layers": 12, "heads": 12, "width": 768, "context_length": 256}
    large = spec(TEXT, model=gpt2, batch_size=256, micro_batch_size=32)
    assert requests.shared_gpus([large], 1) == 1
    assert requests.shared_gpus([large], 8) == 8
    assert requests.shared_gpus([large], 7) == 4
    assert requests.shared_gpus([large, spec(TEXT)], 8) == 1
    resnet = {"blocks": [2, 2, 2, 2], "width": 64}
    image = spec(IMAGES, data={"image_size": 32}, model=resnet, batch_size=512)
    assert requests.shared_gpus([image], 8) == 4
    assert requests.shared_gpus([image.model_copy(update={"micro_batch_size": 128})], 8) == 1


def test_several_gpus_are_asked_of_snakemake_and_of_the_training(clone):
    path = clone.path / "src" / "decaylab" / "workflow" / "requests.py"
    path.write_text(path.read_text().replace("BUSY_FLOPS = 2.7e11", "BUSY_FLOPS = 0"))
    words = "--cores", "1", "-n", "-p", "with_vgg", "--config", "device=cuda", "gpus=2"
    done = clone.snakemake("--resources", "gpu=4", *words)
    assert done.returncode == 0, done.stderr
    assert "--gpus 2 --threads" in done.stdout + done.stderr
    done = clone.snakemake(*words)
    assert done.returncode != 0
    assert "config: gpus: 2, but snakemake may use 1; add --resources gpu=2" in done.stderr


@pytest.mark.parametrize(
    ("gpu", "together", "words"),
    [(0, "auto", "config: gpus: 2 need a GPU"), (1, 4, "config: together: several GPUs train one run at a time")],
)
def test_several_gpus_without_a_gpu_or_with_several_runs_are_one_line(gpu, together, words):
    plan = object.__new__(Plan)
    plan.config, plan.gpu = {"gpus": 2, "together": together}, gpu
    with pytest.raises(InputError, match=words):
        plan._check_gpus()


def test_both_profiles_of_slurm_differ_only_in_the_account():
    with_it, without = (
        yaml.safe_load((ROOT / "profiles" / name / "profile.yaml").read_text())
        for name in ("slurm", "slurm-without-accounting")
    )
    assert with_it["executor"] == "slurm"
    assert without == with_it | {"slurm-no-account": True}


def waited(condition, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.2)
    return False


@pytest.fixture
def small(clone):
    """The clone with the real programs and one replication: two runs, each long enough to be killed."""
    shutil.rmtree(clone.path / "bin")
    shutil.copy(ROOT / "replications" / "references.yaml", clone.path / "replications")
    shutil.copytree(ROOT / "docs", clone.path / "docs")
    path = clone.path / "replications" / "with_vgg" / "replication.yaml"
    value = yaml.safe_load(path.read_text())
    value["base"] |= {"steps": STEPS, "evaluation": {"every": STEPS // 2, "log_every": STEPS // 10}}
    value["grids"]["main"]["axes"]["seed"] = [0]
    path.write_text(yaml.safe_dump(value))
    notebook = (ROOT / "notebooks" / "loss_stabilization.ipynb").read_text()
    cells = json.loads(notebook.replace("loss_stabilization", "with_vgg"))
    cells["cells"] = cells["cells"][:3]  # the title, the parameter and the report itself
    (clone.path / "notebooks" / "with_vgg.ipynb").write_text(json.dumps(cells))
    return clone


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["slurm-without-accounting", "slurm"])
def test_a_cluster_trains_through_the_kill_of_a_job(small, profile):
    """The real workflow at smoke scale on a Slurm of this machine."""
    accounting = profile == "slurm"
    if lacking := local_slurm.missing(accounting):
        pytest.skip(f"no Slurm here: {', '.join(lacking)} not installed (Debian: {local_slurm.PACKAGES})")
    if find_spec("snakemake_executor_plugin_slurm") is None:
        pytest.skip("snakemake-executor-plugin-slurm is not installed (pip install 'decaylab[slurm]')")
    results = small.path / "results"
    words = ["--workflow-profile", f"profiles/{profile}"]
    words += [
        "--slurm-init-seconds-before-status-checks",
        "3",
        "--latency-wait",
        "10",
        "--default-resources",
        "mem_mb=100",
    ]
    words += ["--config", "scale=smoke", "runs_per_process={smoke: 1}", "replications=with_vgg"]
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
    try:
        with local_slurm.slurm(folder, accounting) as env, open(small.path / "printed", "w") as log:
            process = subprocess.Popen(
                small.command(*words),
                cwd=small.path,
                env=env | {"PYTHONPATH": str(small.path / "src"), "OMP_NUM_THREADS": "1"},
                stdout=log,
                stderr=log,
            )
            begun = waited(lambda: any(results.glob("state/*/checkpoint.pt")) or process.poll() is not None, 900)
            assert begun, "no checkpoint"
            assert process.poll() is None, (small.path / "printed").read_text()[-4000:]
            queue = ["squeue", "-h", "-t", "R", "-o", "%i"]
            for job in subprocess.run(queue, env=env, capture_output=True, text=True, check=True).stdout.split():
                subprocess.run(["scancel", "--signal=KILL", "--full", job], env=env, check=True)
            process.wait(timeout=1500)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    printed = (small.path / "printed").read_text()
    assert process.returncode == 0, printed[-4000:]
    assert "Trying to restart job" in printed
    runs = plan_runs(select(small.path, "with_vgg"), "smoke")
    assert all(read_json(Layout(results).summary(run_id))["steps_done"] == STEPS for run_id in runs)
    assert (small.path / "reports" / "smoke" / "with_vgg.html").exists()
    assert (small.path / "reports" / "smoke" / "index.html").exists()
