"""Sweeps on Dask: the same runs as in one process, whatever happens to workers."""

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from distributed import get_task_stream

from kdnb.experiment import distributed as cluster
from kdnb.experiment.distributed import ClusterError
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.methods import ALONE, conventional
from kdnb.experiment.requests import RunRequest
from kdnb.experiment.sweep import sweep
from kdnb.models import StudentMLP, TeacherCNN
from kdnb.store.store import Store
from kdnb.tasks.config import DistillationConfig
from kdnb.tasks.mnist_small import MNIST_SMALL
from kdnb.training.config import TrainConfig
from kdnb.training.loop import TrainingDivergedError

CPU = torch.device("cpu")
SMALL = replace(
    MNIST_SMALL,
    teacher=partial(TeacherCNN, channels=(2, 4)),
    teacher_config=TrainConfig(epochs=1, batch_size=64, learning_rate=2e-3),
    student=partial(StudentMLP, hidden=(16, 16)),
    student_config=TrainConfig(epochs=3, batch_size=10, learning_rate=3e-3),
    distillation=DistillationConfig(),  # with a teacher as without one
)
# Too large to be trained together, so the same to the bit wherever it is trained by one thread.
LONG = replace(
    SMALL,
    student=partial(StudentMLP, hidden=(512, 512)),
    student_config=TrainConfig(epochs=50, batch_size=10, learning_rate=1e-3),
)
METHODS = [ALONE, conventional(1.0, 0.5, "T = 1"), conventional(4.0, 0.9, "T = 4")]


def deadly_student(num_classes=10, subclasses=1):
    """With seed 99 it ends every worker that builds it, as lack of memory does."""
    if torch.initial_seed() == 99 and multiprocessing.parent_process() is not None:
        os.kill(os.getpid(), signal.SIGKILL)
    return StudentMLP(num_classes, subclasses, hidden=(512, 512))


PATIENCE = 600  # seconds after which a process will not end any more, however busy the machine is


def lab_in(folder, task=SMALL):
    return Experiment(task, store=Store(folder), device=CPU)


def runs_of(lab):
    return {key: lab.store.path(key).stat().st_mtime_ns for key in lab.store.names("run-")}


def requests(*seeds):
    return [RunRequest(seed, method) for seed in seeds for method in METHODS]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def workers(folder):
    """Two processes, whose run store is ``folder``; seeds keep the tests apart there."""
    with cluster.local_cluster(lab_in(folder), 2) as here:
        yield here


@pytest.fixture
def client(workers):
    with cluster.connected(workers.scheduler_address) as client:
        yield client


def same_runs(lab, other, seeds, exactly):
    """What is in one store is in the other, with the same weights."""
    result, expected = (each.compare(METHODS, list(seeds), split="val") for each in (lab, other))
    for label, runs in expected.runs.items():
        for run, its in zip(runs, result.runs[label], strict=True):
            assert its.loaded and its.keys == run.keys
            for name, weights in run.model.state_dict().items():
                atol = 0 if exactly else 1e-3
                torch.testing.assert_close(its.model.state_dict()[name], weights, atol=atol, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False], ids=["shared folder", "sent back"])
def test_workers_give_what_one_process_gives(shared, client, folder, tmp_path, monkeypatch):
    seeds = (0, 1) if shared else (2, 3)
    lab = lab_in(folder if shared else tmp_path / "mine")
    told, sent, put = [], [], lab.store.put
    monkeypatch.setattr(lab.store, "put", lambda key, *rest: sent.append(key) or put(key, *rest))
    with get_task_stream(client) as tasks:
        cluster.train(client, lab, requests(*seeds), told.append)
    there = runs_of(lab)
    # Each was trained once: so many runs, and not one more that was done.
    assert len(there) == told[-1].done == told[-1].total == 2 + 2 * 3
    assert told[-1].finished and [one.done for one in told] == sorted(one.done for one in told)
    assert {task["worker"] for task in tasks.data} == set(client.nthreads())
    assert sorted(sent) == ([] if shared else sorted(there))
    same_runs(lab, lab_in(tmp_path / "alone"), seeds, exactly=False)
    assert not list(folder.glob(".sweep-*")) and not list(lab.store.root.glob(".sweep-*"))
    with get_task_stream(client) as tasks:
        cluster.train(client, lab, requests(*seeds), told.append)
    assert not tasks.data and runs_of(lab) == there
    cluster.train(client, lab, requests(*seeds, seeds[0] + 100))
    assert there.items() <= runs_of(lab).items() and len(runs_of(lab)) == len(there) + 1 + 3


@pytest.mark.slow
def test_a_killed_worker_loses_only_its_unit(client, folder, tmp_path):
    lab = lab_in(folder, LONG)
    there, told = {}, []

    def kill(progress):
        told.append(progress)
        for address, keys in client.processing().items():
            student = any("seed 10" in key and "teacher" not in key for key in keys)
            if student and progress.done % 1 and not there:  # in the middle of it
                pid = client.run(os.getpid, workers=[address])[address]
                there.update(runs_of(lab))
                os.kill(pid, signal.SIGKILL)

    before = runs_of(lab)
    cluster.train(client, lab, requests(10), kill)
    assert there, "no worker was killed"
    after = runs_of(lab)
    assert there.items() <= after.items(), "what was finished was trained again"
    assert len(after) - len(before) == told[-1].done == 1 + 3
    same_runs(lab, lab_in(tmp_path, LONG), [10], exactly=True)


@pytest.mark.slow
def test_a_stopped_sweep_goes_on(client, tmp_path):
    """Without a shared folder: what is half done is sent back, and given to whoever goes on."""
    # Long enough to have taken a copy by then: one may take a two-hundredth of the time.
    task = replace(LONG, student_config=replace(LONG.student_config, epochs=80))
    seed, lab = 20, lab_in(tmp_path / "mine", task)

    def stop(progress):
        if progress.done > 2.2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cluster.train(client, lab, requests(seed), stop)
    there = runs_of(lab)
    assert lab.store.names("part-"), "nothing half done was kept"
    cluster.train(client, lab, requests(seed))
    assert there.items() < runs_of(lab).items(), "what was finished was trained again"
    assert not lab.store.names("part-")
    same_runs(lab, lab_in(tmp_path / "alone", task), [seed], exactly=True)


@pytest.mark.slow
def test_a_unit_that_ends_every_worker_is_named_and_the_rest_is_kept(client, folder):
    lab = lab_in(folder, replace(SMALL, student=deadly_student))  # each is a unit of its own
    asked = [RunRequest(99, ALONE), RunRequest(30, ALONE)]
    with pytest.raises(ClusterError, match=r"student without teacher, seed 99, .* each of 3 work"):
        cluster.train(client, lab, asked)
    assert [one for one in asked if lab.pending(one)] == [RunRequest(99, ALONE)]


@pytest.mark.slow
def test_errors_of_a_worker_arrive_as_they_are(client, tmp_path, monkeypatch):
    wild = replace(SMALL, student_config=replace(SMALL.student_config, learning_rate=1e30))
    lab = lab_in(tmp_path / "wild", wild)
    with pytest.raises(TrainingDivergedError, match="try a learning rate below 1e") as caught:
        cluster.train(client, lab, [RunRequest(0, ALONE)])
    assert caught.value.history is not None

    (tmp_path / "only_here.py").write_text(
        "from kdnb.models import StudentMLP\n\n\ndef mine(**how):\n    return StudentMLP(**how)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import only_here

    lab = lab_in(tmp_path / "mine", replace(SMALL, student=only_here.mine))
    with pytest.raises(ClusterError, match=r"cannot import what it .*only_here.*PYTHONPATH"):
        cluster.train(client, lab, [RunRequest(0, ALONE)])

    lab = lab_in(tmp_path / "x")
    lab.transfer.images[0] += 1
    with pytest.raises(ClusterError, match=r"another run than requested: .* version of kdnb"):
        cluster.train(client, lab, [RunRequest(0, ALONE)])


@pytest.mark.slow
@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "127.0.0.1:9", "tcp://nowhere.invalid:1"])
def test_an_address_where_nothing_answers(address, monkeypatch):
    monkeypatch.setattr(cluster, "ANSWER_SECONDS", 0.5)
    # Dask closes the last test's client where it is collected: in a starting loop, that locks up.
    gc.collect()
    with (
        pytest.raises(ClusterError, match=f"no Dask scheduler answers at '{address}'"),
        cluster.connected(address),
    ):
        pass


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("localhost", "missing port"),
        ("tcp://localhost", "missing port"),
        ("carrier-pigeon://coop:1", "unknown address scheme"),
        ("http://localhost:8786", "unknown address scheme"),
        ("", "missing port"),
        ("  ", "missing port"),
        ("tcp://:8786", "names no host"),
        ("tcp://localhost:0", "no port from 1 to 65535"),
        ("tcp://localhost:65536", "no port from 1 to 65535"),
        ("tcp://localhost:dask", "invalid literal"),
        ("::1:8786", "ipv6 needs brackets"),
        ("tls://localhost:8786", "names no certificates"),
    ],
)
def test_what_is_no_address_is_said_and_nothing_is_left_open(address, says, monkeypatch):
    """Dask's client would write a traceback when Python ends: none may be made."""
    monkeypatch.setattr(cluster, "Client", lambda *_, **__: pytest.fail("a client was made"))
    with (
        pytest.raises(ClusterError, match=rf"{says}.*such as tcp://localhost:8786"),
        cluster.connected(address),
    ):
        pass


def test_no_cluster_is_started_for_nothing(tmp_path, monkeypatch):
    lab = lab_in(tmp_path)
    # Two teachers; six students in groups of four.
    assert cluster.useful_workers(lab, requests(0, 1), 8) == 2
    assert cluster.useful_workers(lab, [RunRequest(0, ALONE)], 8) == 1
    monkeypatch.setattr(cluster, "local_cluster", lambda *_: pytest.fail("a cluster was started"))
    sweep(lab, [1.0], [0.5], [0], workers=2)  # one teacher, then two students in one unit
    assert lab.pending(RunRequest(0, ALONE)) is None
    assert sweep(lab, [1.0], [0.5], [0, 1]).seeds == (0, 1)  # none is asked for
    assert sweep(lab, [1.0], [0.5], [0, 1], workers=2).seeds == (0, 1)  # nothing is missing
    with pytest.raises(ValueError, match="at least 1"):
        sweep(lab, [1.0], [0.5], [0], workers=0)


def test_one_worker_for_each_gpu(tmp_path, monkeypatch):
    asked = {}

    class NoClusterError(Exception):
        pass

    def cluster_of(**options):
        asked.update(options)
        raise NoClusterError

    def counting(lab, workers, local_cluster=cluster.local_cluster):
        asked["workers"] = workers
        return local_cluster(lab, workers)

    lab = lab_in(tmp_path)
    lab.device = torch.device("cuda")
    monkeypatch.setattr(cluster, "local_cluster", counting)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(cluster, "LocalCluster", cluster_of)
    monkeypatch.setattr(cluster.signal, "signal", lambda *_: None)
    monkeypatch.setattr(Experiment, "pending", lambda *_: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    environment = dict(os.environ)
    with pytest.raises(NoClusterError):
        sweep(lab, [1.0], [0.5], [0, 1])
    assert asked["workers"] == 2 and environment == dict(os.environ)
    for name, shown in ((0, "3"), (1, "5")):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", asked["env"]["CUDA_VISIBLE_DEVICES"])
        cluster.dask_setup(SimpleNamespace(name=name))
        assert os.environ["CUDA_VISIBLE_DEVICES"] == shown


def alive(group):
    """Processes of this group that run: a dead one whose parent is gone too may stay listed."""
    listed = subprocess.run(["ps", "-A", "-o", "pgid=,stat="], capture_output=True, text=True)
    fields = [line.split() for line in listed.stdout.splitlines()]
    return [stat for pgid, stat in fields if int(pgid) == group and not stat.startswith("Z")]


@pytest.mark.slow
def test_ctrl_c_on_a_terminal_leaves_no_process_and_no_traceback(tmp_path):
    """To the whole group, as a terminal sends it; and the command then goes on."""
    command = [sys.executable, "-m", "kdnb", "sweep", "--workers", "2", "--temperature", "4"]
    command += ["--soft-weight", "0.9", "--seed", "0", "1"]
    environment = {**os.environ, "KDNB_RUNS": str(tmp_path)}
    # Where the tests run in the background they ignore it, and so would the command.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    running = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    signal.signal(signal.SIGINT, before)
    try:
        first = running.stdout.readline()
        assert first.startswith("Dask dashboard: http://127.0.0.1:")
        assert "0 of 6 runs done, 2 workers" in running.stdout.readline()
        os.killpg(running.pid, signal.SIGINT)
        _, said = running.communicate(timeout=PATIENCE)
    finally:
        running.kill()
    assert running.returncode == 130
    assert said.strip() == "kdnb: stopped; finished runs are stored and will be reused"
    end = time.monotonic() + PATIENCE
    while alive(running.pid) and time.monotonic() < end:
        time.sleep(0.1)
    assert not alive(running.pid)
    assert not list(tmp_path.glob(".sweep-*"))
