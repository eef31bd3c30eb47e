"""Connections to clusters that are not there, and shares of nodes."""

import platform
import socket
import sys
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest

import benchmark
import earmark
import evaluate_speaker
import probe
from earmark.cli import RayOptions
from earmark.cluster.session import NodeReport, Share, _node_fault, require_cluster, share
from earmark.errors import MissingError


def listening(answer):
    """A server that sends `answer` to whoever connects; its address."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        connection, _ = server.accept()
        connection.sendall(answer)
        connection.recv(100)
        connection.close()

    threading.Thread(target=serve, daemon=True).start()
    return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", r"--ray 127.0.0.1:1: no Ray cluster there \(.*refused\)\. Start one with"),
        ("127.0.0.1:123456789", "no Ray cluster there"),
        ("no-such-host.invalid:6379", "no Ray cluster there"),
        ("head", "not an address HOST:PORT"),
        ("head:port", "not an address HOST:PORT"),
        ("ray://10.0.0.1:10001", "give HOST:PORT of the cluster's head"),
    ],
)
def test_require_cluster_names_an_address_without_a_cluster(address, message):
    with pytest.raises(MissingError, match=message):
        require_cluster(address)


def test_require_cluster_names_another_server():
    with pytest.raises(MissingError, match="what answers there is not a Ray cluster"):
        require_cluster(listening(b"SSH-2.0-OpenSSH_9.6\r\n"))


def test_require_cluster_accepts_the_first_frame_of_http2():
    require_cluster(listening(b"\0\0\0\x04\0\0\0\0\0"))


class Answers:
    """A stand-in for Ray whose tasks are their answers: a report, or an error."""

    class exceptions:  # noqa: N801 (the name of Ray's module)
        class GetTimeoutError(Exception): ...

        class WorkerCrashedError(Exception): ...

        class TaskUnschedulableError(Exception): ...

    @staticmethod
    def get(answer, timeout):
        if isinstance(answer, Exception):
            raise answer
        return answer


REPORT = NodeReport("node-a", earmark.__version__, platform.python_version(), "/code", ())


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (REPORT, ""),
        (Answers.exceptions.WorkerCrashedError(), ""),  # the node was lost; others go on
        (Answers.exceptions.GetTimeoutError(), "no answer within 120 s"),
        (replace(REPORT, missing=("/data/run",)), "has no folder /data/run"),
        (replace(REPORT, earmark="0.0.9"), f"has earmark 0.0.9 in /code, not {earmark.__version__}"),
        (replace(REPORT, python="3.1.0"), f"has Python 3.1.0, not {platform.python_version()}"),
        (
            RuntimeError("ray::report_node()\n  File x\nModuleNotFoundError: No module named 'earmark'\n"),
            "cannot run the code (ModuleNotFoundError: No module named 'earmark')",
        ),
    ],
)
def test_node_fault_says_why_a_node_cannot_be_used(answer, fault):
    assert _node_fault(Answers, answer) == fault


def nodes(*resources):
    """A stand-in for Ray with these nodes, the last of which is lost."""
    alive = [{"Alive": True, "Resources": each} for each in resources]
    return SimpleNamespace(nodes=lambda: [*alive, {"Alive": False, "Resources": {"CPU": 64, "GPU": 8}}])


@pytest.mark.parametrize(
    ("options", "resources", "expected"),
    [
        (RayOptions(""), [{"CPU": 1}, {"CPU": 1}], Share(1, 0.0, 2)),
        (RayOptions(""), [{"CPU": 16}, {"CPU": 10}], Share(4, 0.0, 6)),
        (RayOptions("", ray_cpus=5), [{"CPU": 16}, {"CPU": 10}], Share(5, 0.0, 5)),
        (RayOptions("", ray_actors=1), [{"CPU": 16}], Share(4, 0.0, 1)),
        (RayOptions(""), [{"CPU": 16, "GPU": 4}, {"CPU": 8, "GPU": 1}, {"CPU": 4}], Share(4, 1.0, 5)),
        (RayOptions("", ray_gpus=0.5), [{"CPU": 16, "GPU": 2}], Share(4, 0.5, 4)),
        (RayOptions("", ray_gpus=0.1, ray_cpus=1), [{"CPU": 16, "GPU": 1}], Share(1, 0.1, 10)),
        (RayOptions("", ray_gpus=0), [{"CPU": 8, "GPU": 2}], Share(4, 0.0, 2)),
        (RayOptions("", ray_gpus=2), [{"CPU": 8, "GPU": 4}], Share(4, 2.0, 2)),
    ],
)
def test_share_divides_the_nodes(options, resources, expected):
    assert share(nodes(*resources), options) == expected


def test_share_needs_no_gpu_on_the_cpu():
    assert share(nodes({"CPU": 8, "GPU": 1}), RayOptions(""), "cpu") == Share(4, 0.0, 2)


def test_share_names_what_no_node_has():
    with pytest.raises(MissingError, match=r"No node .* has 1 CPU core and 1 GPU for a worker.* have: 8 CPU cores\."):
        share(nodes({"CPU": 8}), RayOptions("", ray_gpus=1))


CASE = ["case", "nowhere", "--encoder", "logmel"]


@pytest.mark.parametrize("main", [probe.main, lambda words: evaluate_speaker.main([*CASE, *words])])
def test_an_address_without_a_cluster_exits_with_2(main, capsys):
    assert main(["--ray", "127.0.0.1:1"]) == 2
    assert "--ray 127.0.0.1:1: no Ray cluster there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("main", "words", "message"),
    [
        (probe.main, ["--ray-actors", "2"], "need --ray"),
        (benchmark.main, ["--ray"], "--ray needs --model NAME or --clap-model NAME"),
        (benchmark.main, ["--endpoint", "http://127.0.0.1:1", "--ray"], "--ray needs --model NAME"),
        (evaluate_speaker.main, ["trials", "--trials", "t.txt", "--scores", "s.txt", "--ray"], "--ray needs --encoder"),
    ],
)
def test_flags_without_use_exit_with_2(main, words, message, capsys):
    assert main(words) == 2
    assert message in capsys.readouterr().err


def test_a_missing_extra_exits_with_2_and_its_command(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert probe.main(["--ray"]) == 2
    assert "--ray needs ray, which is not installed; use `uv run --extra ray probe.py …`" in capsys.readouterr().err
