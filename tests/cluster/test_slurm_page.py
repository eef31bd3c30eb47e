"""The scripts of docs/slurm.md, run with stand-ins for Slurm and uv that record what they are called with."""

import os
import re
import subprocess

import pytest

import probe
from tests.conftest import ROOT

SCRIPTS = re.findall(r"```bash\n(.*?)```", (ROOT / "docs/slurm.md").read_text(), re.DOTALL)
BATCH = [script for script in SCRIPTS if script.startswith("#!/bin/bash\n#SBATCH")]


def run_with_stand_ins(tmp_path, script, **variables):
    """The commands that a script runs, one list of words each."""
    for name in ("uv", "srun"):
        stand_in = tmp_path / name
        stand_in.write_text(f'#!/bin/bash\nIFS=$\'\\t\'; echo "{name}\t$*" >> "$RECORD"\n')
        stand_in.chmod(0o755)
    (tmp_path / "script").write_text(script)
    record = tmp_path / "record"
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "RECORD": str(record), **variables}
    script = 'source "$1"; wait'
    subprocess.run(["bash", "-c", script, "bash", str(tmp_path / "script")], env=environment, check=True, cwd=tmp_path)
    return [line.split("\t") for line in record.read_text().splitlines()]


def test_the_page_has_an_array_and_a_job_with_ray():
    assert len(BATCH) == 2
    assert "--array" in BATCH[0] and "ray start" in BATCH[1]


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_valid_bash(script):
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def arguments(words):
    """The flags of a recorded `uv run --no-sync probe.py …`, as the script reads them."""
    assert words[:4] == ["uv", "run", "--no-sync", "probe.py"]
    return probe.argument_parser().parse_args(["run", *words[4:]])


def test_each_job_of_the_array_probes_one_task(tmp_path):
    ((*words,),) = run_with_stand_ins(tmp_path, BATCH[0], SLURM_ARRAY_TASK_ID="19")
    assert arguments(words).tasks == ["ravdess"]


@pytest.mark.parametrize("nodes", [1, 4])
def test_the_job_with_ray_starts_nodes_and_runs_the_command_on_them(tmp_path, nodes):
    recorded = run_with_stand_ins(
        tmp_path,
        BATCH[1],
        SLURM_JOB_ID="1234567",
        SLURM_NNODES=str(nodes),
        SLURM_CPUS_PER_TASK="32",
        SLURMD_NODENAME="node-0",
    )
    heads = [words for words in recorded if "--head" in words]
    others = [words for words in recorded if words[0] == "srun"]
    (command,) = [words for words in recorded if "probe.py" in words]
    (head,) = heads
    assert recorded[0] == head
    assert head[:5] == ["uv", "run", "--no-sync", "ray", "start"]
    assert {"--port=24567", "--num-cpus=32", "--num-gpus=4", "--include-dashboard=false"} <= set(head)
    address = arguments(command).ray
    assert address.endswith(":24567") and f"--node-ip-address={address.rpartition(':')[0]}" in head
    assert arguments(command).ray_actors == 4 * nodes
    assert len(others) == (nodes > 1)
    for words in others:
        assert {"--nodes=3", "--ntasks=3", "--exclude=node-0", f"--address={address}", "--block"} <= set(words)
