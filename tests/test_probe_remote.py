"""probe.py with data and embeddings on a real S3 server: the numbers of local files, faults, two writers at once."""

import os
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("torch", reason="the extra `torch` is not installed")

import probe
from earmark.embeddings import remote
from earmark.files.remote import location
from tests.conftest import ROOT
from tests.models.encoders.sources import case, save
from tests.object_storage import KEY, SECRET
from tests.test_probe import QUICK, summary, tars, values, write_task

pytestmark = pytest.mark.slow


def words(tmp_path, data, store, *tasks, out, flags=()):
    places = ["--data-root", data, "--embedding-cache", store, "--output-dir", tmp_path / out]
    return [*map(str, places), *QUICK, "--track", "knn", "--quiet", *flags, "--tasks", *map(str, tasks)]


def result(tmp_path, out):
    folders = sorted((tmp_path / out).iterdir()) if (tmp_path / out).exists() else []
    return folders[0] if folders else None


def run(tmp_path, data, store, *tasks, out, code=0, flags=()):
    assert probe.main(words(tmp_path, data, store, *tasks, out=out, flags=flags)) == code
    return result(tmp_path, out)


@pytest.fixture
def data(tmp_path):
    """A published task in tar files, and a task with a manifest in the data root."""
    tars(tmp_path / "data", "cremad", ("wds-audio-train", "wds-audio-valid", "wds-audio-test"))
    file = write_task(tmp_path / "data", "tones")
    return tmp_path / "data", ("cremad", file.rename(tmp_path / "tones.toml"))


def shards(store):
    """URLs of the shards of a remote cache."""
    folder = location(store)
    return list(folder.rglob("*.ids"))


def rows(store):
    """Keys of all stored embeddings, once per copy."""
    return [line[:64] for path in shards(store) for line in path.read_text().splitlines()]


def assert_no_secrets(*texts):
    for text in texts:
        assert KEY not in text and SECRET not in text


def test_run_on_s3_gives_the_numbers_of_local_files(tmp_path, data, s3, capsys):
    local, tasks = data
    expected = values(run(tmp_path, local, tmp_path / "store", *tasks, out="local"))
    url, store = s3.upload(local, "speech"), f"{s3.url}/store"
    folder = run(tmp_path, url, store, *tasks, out="remote")
    assert values(folder) == expected and len({name for name, *_ in expected}) == 2
    n_shards = len(shards(store))
    assert values(run(tmp_path, url, store, *tasks, out="again", flags=["--workers", "2"])) == expected
    assert values(run(tmp_path, local, store, *tasks, out="mixed")) == expected
    assert len(shards(store)) == n_shards and len(set(rows(store))) == len(rows(store)) == 66
    outputs = capsys.readouterr()
    files = [path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file()]
    assert_no_secrets(*files, outputs.out, outputs.err)
    assert f"{s3.url}/speech" in summary(folder)["argv"]
    assert_no_secrets(*(path.read_bytes().decode("latin-1") for path in location(store).rglob("*.*")))


def test_list_shows_remote_data(tmp_path, data, s3, capsys):
    local, _ = data
    assert probe.main(["list", "cremad", "--data-root", s3.upload(local)]) == 0
    shown = capsys.readouterr().out
    assert f"Data directory: {s3.url}" in shown and "tar files" in shown and "present" in shown


def test_each_tar_is_listed_and_read_once_and_each_clip_once(tmp_path, s3, monkeypatch):
    from s3fs import S3FileSystem

    patterns = ("wds-audio-train", "wds-audio-valid", "wds-audio-test")
    tars(tmp_path / "data", "cremad", patterns, n=(60, 20, 30), seconds=1.0)
    url = s3.upload(tmp_path / "data", "speech")
    reads, read = [], S3FileSystem._cat_file

    async def _cat_file(self, path, version_id=None, start=None, end=None, **how):
        content = await read(self, path, version_id=version_id, start=start, end=end, **how)
        reads.append((path, start, len(content)))
        return content

    monkeypatch.setattr(S3FileSystem, "_cat_file", _cat_file)
    S3FileSystem.clear_instance_cache()
    run(tmp_path, url, tmp_path / "store", "cremad", out="out")
    size = sum(path.stat().st_size for path in (tmp_path / "data/cremad").iterdir())
    clip_reads = [(path, start) for path, start, n in reads if n == 32_044]  # a WAV file of one second
    others = [n for path, _, n in reads if path.endswith(".tar") and n != 32_044]
    assert len(clip_reads) == len(set(clip_reads)) == 330
    assert len(others) < 30 and sum(others) <= size + 330 * 512


def process(tmp_path, s3, *arguments):
    """Start probe.py on another machine, so to say: a process with the environment of the server only."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "OMP_NUM_THREADS": "1", **s3.environment}
    return subprocess.Popen(
        [sys.executable, "probe.py", *arguments], cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip


def test_two_processes_fill_one_store(tmp_path, data, s3):
    local, tasks = data
    expected = values(run(tmp_path, local, tmp_path / "local-store", *tasks, out="local"))
    url, store = s3.upload(local, "speech"), f"{s3.url}/store"
    running = [process(tmp_path, s3, *words(tmp_path, url, store, *tasks, out=f"machine{i}")) for i in (1, 2)]
    for i, each in enumerate(running, 1):
        output, _ = each.communicate(timeout=300)
        assert each.returncode == 0, output
        assert values(result(tmp_path, f"machine{i}")) == expected
        assert_no_secrets(output)
    n_rows = len(rows(store))
    assert len(set(rows(store))) == 66 and n_rows <= 2 * 66
    assert values(run(tmp_path, url, store, *tasks, out="third")) == expected
    assert len(rows(store)) == n_rows  # nothing was embedded again


def test_killed_process_costs_only_what_it_had_not_written(tmp_path, s3, monkeypatch):
    """A process is killed after its first shard; the same command resumes, and the numbers are those of one run."""
    monkeypatch.setattr(remote, "MAX_UNWRITTEN_SECONDS", remote.MAX_UNWRITTEN_SECONDS)  # the encoder changes it
    each_batch = "from earmark.embeddings import remote\nremote.MAX_UNWRITTEN_SECONDS = 0.0\n"
    encoder = save(tmp_path, "encoder.py", case(slow=0.1) + each_batch)
    write_task(tmp_path / "data", "tones")
    task, store = tmp_path / "data/tones.toml", f"{s3.url}/store"
    flags = ["--encoder", str(encoder), "--batch-size", "4"]
    expected = values(run(tmp_path, tmp_path / "data", tmp_path / "store", task, out="local", flags=flags))
    arguments = words(tmp_path, tmp_path / "data", store, task, out="remote", flags=flags)
    killed = process(tmp_path, s3, *arguments)
    deadline = time.monotonic() + 120
    while not shards(store) and time.monotonic() < deadline:
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    before = rows(store)
    assert 0 < len(before) < 33
    resumed = process(tmp_path, s3, *arguments)
    output, _ = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, output
    assert values(result(tmp_path, "remote")) == expected
    assert len(rows(store)) == len(set(rows(store))) == 33 and set(before) <= set(rows(store))


# --- faults ---


def assert_fails(tmp_path, capsys, code, message, *arguments):
    try:
        found = probe.main([*arguments, *QUICK, "--track", "knn", "--quiet", "--output-dir", str(tmp_path / "out")])
    except SystemExit as stopped:
        found = stopped.code
    error = capsys.readouterr().err
    assert found == code and message in error, error
    assert_no_secrets(error)
    assert "Traceback" not in error and not list((tmp_path / "out").rglob("*.csv"))


@pytest.mark.parametrize("flag", ["--data-root", "--embedding-cache"])
def test_faults_of_the_place(tmp_path, s3, capsys, flag):
    fails = lambda *rest: assert_fails(tmp_path, capsys, *rest)  # noqa: E731
    fails(2, "s3://earmark-none/x: the bucket earmark-none does not exist", flag, "s3://earmark-none/x")
    fails(2, "is not a valid name of a bucket", flag, "s3://Not_A_Bucket!/x")
    fails(2, "the URL has no bucket", flag, "s3://")
    fails(2, "contains a password", flag, f"s3://{KEY}:{SECRET}@{s3.bucket}/x")


@pytest.mark.parametrize("flag", ["--data-root", "--embedding-cache"])
def test_denied_access(tmp_path, s3, capsys, flag):
    s3.deny()
    assert_fails(tmp_path, capsys, 1, f"{s3.url}: access denied (InvalidAccessKeyId). Check that", flag, s3.url)


@pytest.mark.parametrize("flag", ["--data-root", "--embedding-cache"])
def test_unreachable_server(tmp_path, s3, capsys, flag, monkeypatch):
    from s3fs import S3FileSystem

    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://me:{SECRET.replace('/', '')}@127.0.0.1:9")
    S3FileSystem.clear_instance_cache()
    assert_fails(tmp_path, capsys, 1, "does not respond. Check the network and AWS_ENDPOINT_URL", flag, s3.url)


def test_no_credentials(tmp_path, s3, capsys, monkeypatch):
    from s3fs import S3FileSystem

    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    S3FileSystem.clear_instance_cache()
    assert_fails(tmp_path, capsys, 2, "no credentials found", "--data-root", s3.url)


def test_traceback_of_debug_holds_no_secrets(tmp_path, s3, capsys):
    s3.deny()
    assert probe.main(["--debug", *words(tmp_path, s3.url, tmp_path / "store", "esc50", out="out")]) == 1
    error = capsys.readouterr().err
    assert "Traceback" in error and "access denied" in error and "botocore" not in error
    assert_no_secrets(error)


def test_access_lost_during_a_run_is_the_failure_of_the_task(tmp_path, data, s3, capsys):
    """The bucket denies after the labels were read; nothing half-written, and the same command resumes."""
    url = s3.upload(data[0], "speech")
    flags = ["--encoder", str(tmp_path / "encoder.py")]
    source, line = case(), "        assert self.ready\n"
    deny = f"        __import__('requests').post('{s3.endpoint}/moto-api/reset-auth', data='0')\n"
    save(tmp_path, "encoder.py", source.replace(line, line + deny))
    folder = run(tmp_path, url, tmp_path / "store", "cremad", out="out", code=1, flags=flags)
    assert "access denied" in summary(folder)["failed"][0]["error"]
    s3.allow()
    save(tmp_path, "encoder.py", source)
    assert values(run(tmp_path, url, tmp_path / "store", "cremad", out="out2", flags=flags))


def test_download_into_a_bucket_is_refused(s3, capsys):
    assert probe.main(["download", "esc50", "--data-root", s3.url]) == 2
    assert "is not a local folder" in capsys.readouterr().err


def test_results_in_a_bucket_are_refused(tmp_path, s3, capsys, monkeypatch):
    assert probe.main(["--track", "knn", "--output-dir", s3.url, "--embedding-cache", str(tmp_path / "store")]) == 2
    assert "results are written to local folders only" in capsys.readouterr().err
