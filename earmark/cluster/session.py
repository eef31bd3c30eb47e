"""Connection to a Ray cluster: found or started, checked, and closed."""

import contextlib
import os
import platform
import socket
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import earmark
from earmark.cli import Invocation, RayEnvironment, RayOptions
from earmark.errors import EarmarkError, MissingError, shown_cause
from earmark.optional import require_library

EXTRA, NEEDED_BY = "--extra ray", "--ray"
CONNECT_SECONDS = 5.0
CHECK_SECONDS = 120.0  # for a first process on every node
OBJECT_STORE_BYTES = 100_000_000  # of a cluster that is started here; embeddings go through files
CODE = Path(earmark.__file__).resolve().parents[1]
# What a client of HTTP/2 sends first, and the type of the frame that every server of HTTP/2 answers with.
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"
SETTINGS_FRAME = 4


@dataclass(frozen=True)
class NodeReport:
    """What a process on a node finds.

    Attributes
    ----------
    host : str
        Name of the machine.
    earmark, python : str
        Versions.
    code : str
        Folder of the code.
    missing : tuple of str
        Folders that do not exist there.
    """

    host: str
    earmark: str
    python: str
    code: str
    missing: tuple[str, ...]


@dataclass(frozen=True)
class Share:
    """Resources of one worker.

    Attributes
    ----------
    cpus : int
    gpus : float
    workers : int
        How many of them to start.
    """

    cpus: int
    gpus: float
    workers: int

    @property
    def resources(self) -> dict[str, Any]:
        """As keyword arguments of `ray.remote`."""
        return {"num_cpus": self.cpus, "num_gpus": self.gpus}


@contextlib.contextmanager
def connected(options: RayOptions, invocation: Invocation, needs: str = "") -> Iterator[None]:
    """Connect to a Ray cluster and check its nodes; disconnect at the end of the `with` block.

    Parameters
    ----------
    options : RayOptions
        Without an address, nothing happens.
    invocation : Invocation
        Says which cluster is used.
    needs : str
        The flag without which there is nothing to compute on a cluster; empty if it is given.

    Raises
    ------
    MissingError
        If there is nothing to compute, Ray is not installed, there is no cluster at the address, or a node has other
        code or lacks folders.
    """
    if options.ray is None:
        if options != RayOptions():
            raise MissingError("--ray-actors, --ray-gpus and --ray-cpus need --ray.")
        yield
        return
    if needs:
        raise MissingError(f"--ray needs {needs}: without, there are no embeddings to compute.")
    environment = RayEnvironment.read()
    address = options.ray or environment.address
    if address not in ("", "auto", "local"):
        require_cluster(address, environment.uses_tls)
    ray = require_library("ray", EXTRA, NEEDED_BY)
    try:
        where = _connect(ray, address, environment, invocation.debug)
        check_nodes(ray)
        nodes = [node for node in ray.nodes() if node["Alive"]]
        count = "1 node" if len(nodes) == 1 else f"{len(nodes)} nodes"
        invocation.warn(f"Ray: {where}, {count}, {_shown(ray.cluster_resources())}.")
        yield
    finally:
        ray.shutdown()


def require_cluster(address: str, uses_tls: bool = False) -> None:
    """Check within seconds that a Ray cluster may be at an address; Ray itself would try for minutes.

    Parameters
    ----------
    address : str
    uses_tls : bool
        Whether the cluster encrypts; then only the connection is tried.

    Raises
    ------
    MissingError
        If the address is not HOST:PORT, or nothing or something else answers there.
    """
    remedy = "Start one with `ray start --head` and give the address that it prints."
    if "://" in address:
        raise MissingError(
            f"--ray {address}: give HOST:PORT of the cluster's head, such as 10.0.0.1:6379, and run the command on a "
            "node of the cluster."
        )
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdecimal()):
        raise MissingError(f"--ray {address}: not an address HOST:PORT. {remedy}")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS) as connection:
            if not uses_tls and not _speaks_http2(connection):
                raise MissingError(f"--ray {address}: what answers there is not a Ray cluster. {remedy}")
    except (OSError, OverflowError) as error:
        raise MissingError(f"--ray {address}: no Ray cluster there ({shown_cause(error)}). {remedy}") from error


def _speaks_http2(connection: socket.socket) -> bool:
    """Whether a server answers like HTTP/2, which Ray's servers use."""
    connection.settimeout(CONNECT_SECONDS)
    try:
        connection.sendall(HTTP2_PREFACE)
        answer = b""
        while len(answer) < 9 and (more := connection.recv(9 - len(answer))):
            answer += more
    except OSError:
        return False
    return len(answer) == 9 and answer[3] == SETTINGS_FRAME


def _connect(ray: Any, address: str, environment: RayEnvironment, debug: bool) -> str:
    """Connect, and describe the cluster."""
    folders = dict.fromkeys([str(CODE), *environment.python_path])
    settings: dict[str, Any] = {
        "logging_level": "INFO" if debug else "ERROR",
        "log_to_driver": debug,
        "runtime_env": {"env_vars": {"PYTHONPATH": os.pathsep.join(folders)}},
    }
    try:
        if address in ("", "auto"):
            if running := _running_here(ray, environment.uses_tls):
                ray.init(address=running, **settings)
                return f"the cluster of this machine at {running}"
            if address:
                raise MissingError("--ray auto: no Ray cluster runs on this machine. Start one: `ray start --head`.")
        if address in ("", "local"):
            local = {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
            ray.init(address="local", **local, **settings)
            return "started on this machine"
        ray.init(address=address, **settings)
        return f"the cluster at {address}"
    except MissingError:
        raise
    except SystemExit as error:
        raise MissingError(f"--ray {address}: Ray gave up ({error}).") from error
    except Exception as error:
        cause = error.__context__ or error
        reason = f"{shown_cause(error)}" + (f"; {str(cause).strip().splitlines()[-1]}" if cause is not error else "")
        raise MissingError(
            f"--ray {address}: cannot connect ({reason}). Run the command on a node of the cluster, with the versions "
            "of Python and Ray that started it and, if it uses tokens, with RAY_AUTH_MODE=token and its token."
        ) from error


def _running_here(ray: Any, uses_tls: bool) -> str:
    """Address of a cluster on this machine that answers; Ray's file may name one that was killed. Empty if none."""
    services = ray._private.services
    for address in [*services.find_gcs_addresses(), services.find_bootstrap_address(None)]:
        with contextlib.suppress(MissingError):
            if address:
                require_cluster(address, uses_tls)
                return str(address)
    return ""


def report_node(folders: Sequence[str]) -> NodeReport:
    """What a process on this node finds; runs on every node."""
    code = str(Path(earmark.__file__).resolve().parents[1])
    missing = tuple(folder for folder in folders if not Path(folder).is_dir())
    return NodeReport(socket.gethostname(), earmark.__version__, platform.python_version(), code, missing)


def check_nodes(ray: Any) -> None:
    """Check that every node has the code of this process and its folders.

    Raises
    ------
    MissingError
        With all nodes that do not.
    """
    folders = [str(Path.cwd())]
    run = ray.remote(report_node)
    tasks = {}
    for node in ray.nodes():
        if node["Alive"]:
            on_node = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            task = run.options(num_cpus=0, max_retries=0, scheduling_strategy=on_node).remote(folders)
            tasks[task] = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
    ray.wait(list(tasks), num_returns=len(tasks), timeout=CHECK_SECONDS)
    faults = [f"  {name}: {fault}" for task, name in tasks.items() if (fault := _node_fault(ray, task))]
    if faults:
        raise MissingError(
            "\n".join(
                [
                    "Nodes of the Ray cluster that cannot be used:",
                    *faults,
                    "All nodes need the code, its environment and the data at the same paths, as on a shared file "
                    "system: start them with the `ray` of the same environment.",
                ]
            )
        )


def _node_fault(ray: Any, task: Any) -> str:
    """Why a node cannot be used; empty if it can, or if it was lost in the meantime."""
    try:
        report = ray.get(task, timeout=1)
    except ray.exceptions.GetTimeoutError:
        return f"no answer within {CHECK_SECONDS:g} s"
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.TaskUnschedulableError):
        return ""
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = next((line for line in reversed(lines) if "Error" in line), lines[-1] if lines else "unknown")
        return f"cannot run the code ({reason[:200]})"
    if report.missing:
        return f"has no folder {', '.join(report.missing)}"
    if report.earmark != earmark.__version__:
        return f"has earmark {report.earmark} in {report.code}, not {earmark.__version__}"
    mine = platform.python_version()
    return "" if report.python == mine else f"has Python {report.python}, not {mine}"


def share(ray: Any, options: RayOptions, device: str = "auto") -> Share:
    """Resources and number of workers.

    Parameters
    ----------
    ray : module
    options : RayOptions
    device : str
        Device of the model; with `cpu` workers need no GPU.

    Raises
    ------
    MissingError
        If no node has the resources of one worker.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    has_gpus = any(node.get("GPU") for node in nodes) and device != "cpu"
    gpus = options.ray_gpus if options.ray_gpus is not None else 1.0 if has_gpus else 0.0
    usable = [node for node in nodes if node.get("GPU", 0) >= gpus and node.get("CPU", 0) >= 1]
    cpus = options.ray_cpus or _default_cpus(usable, gpus)
    workers = sum(_fitting(node, cpus, gpus) for node in nodes)
    if not workers:
        available = "; ".join(_shown(node) for node in nodes)
        needed = _shown({"CPU": cpus, "GPU": gpus})
        raise MissingError(f"No node of the Ray cluster has {needed} for a worker. The nodes have: {available}.")
    return Share(cpus, gpus, options.ray_actors or workers)


def _default_cpus(nodes: Sequence[dict[str, float]], gpus: float) -> int:
    """The cores of a node for each GPU share, or four, as far as the smallest node has them."""
    if not nodes:
        return 1
    if gpus:
        return max(1, int(min(node["CPU"] / max(node["GPU"] / gpus, 1) for node in nodes)))
    return max(1, int(min(4, *(node["CPU"] for node in nodes))))


def _fitting(node: dict[str, float], cpus: int, gpus: float) -> int:
    """Number of workers that fit on a node."""
    by_cpu = int(node.get("CPU", 0) // cpus)
    return min(by_cpu, int(node.get("GPU", 0) / gpus + 1e-9)) if gpus else by_cpu


def _shown(resources: dict[str, float]) -> str:
    counts = {"CPU core": resources.get("CPU", 0), "GPU": resources.get("GPU", 0)}
    parts = [f"{n:g} {name}{'' if n == 1 else 's'}" for name, n in counts.items() if n or name == "CPU core"]
    return " and ".join(parts)


def ray_module() -> Any:
    """Ray, connected to a cluster.

    Raises
    ------
    EarmarkError
        If there is no connection.
    """
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        raise EarmarkError("There is no connection to a Ray cluster.")
    return ray
