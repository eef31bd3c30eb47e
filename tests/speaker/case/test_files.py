"""The files of CASE: download from a mock of the hub, and validation on disk."""

import io
import tarfile

import numpy as np
import pytest
import soundfile

from earmark.errors import EarmarkError, MissingError
from earmark.files import download as downloads
from earmark.speaker.case import files as case_files
from earmark.speaker.case.conditions import case_definition, categories, category, condition_names, recording_sets
from earmark.speaker.case.files import select_files, trials_folder, verify_files
from tests.file_server import COMMIT, Fault, file_server


def wav(seconds=0.01, rate=16_000, channels=1, format="WAV"):  # noqa: A002
    out = io.BytesIO()
    soundfile.write(out, np.zeros((int(seconds * rate), channels)), rate, format=format)
    return out.getvalue()


def audio(category, recording_set):
    """The files of an archive: two speakers, with the paths of the official archives."""
    return {f"{recording_set}/{category}/id{n}/a.wav": wav() for n in (1, 2)}


def trials(condition):
    first_set, second_set = recording_sets()
    first, second = f"{first_set}/clean/id1/a.wav", f"{second_set}/{category(condition)}/id2/a.wav"
    return f"1 {first} {first}\n0 {first} {second}\n"


def packed(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def published():
    """The repository on the hub, with two recordings per archive."""
    files = {f"trials/{condition}.txt": trials(condition).encode() for condition in condition_names()}
    files |= {"README.md": b"# CASE", "metadata.json": b"{}", ".gitattributes": b""}
    return files | {f"audio/{s}_{c}.tar.gz": packed(audio(c, s)) for s in recording_sets() for c in categories()}


def download(folder, *, progress=lambda file, n: None, **choice):
    """Select and download files, as the command does."""
    files = select_files(**choice)
    case_files.download_files(files, folder, progress, choice.get("token"))
    return files


@pytest.fixture(autouse=True)
def _short_back_off(monkeypatch):
    monkeypatch.setattr(downloads, "BACK_OFF", 0.01)


@pytest.fixture
def hub():
    with file_server() as server:
        server.add_data_set(case_definition()["hub"], published())
        yield server


@pytest.fixture
def benchmark(tmp_path):
    """A complete benchmark on disk."""
    for condition in condition_names():
        put(tmp_path / "trials" / f"{condition}.txt", trials(condition).encode())
    for name in recording_sets():
        for category_name in categories():
            for path, content in audio(category_name, name).items():
                put(tmp_path / path, content)
    return tmp_path


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def address(name):
    return f"/datasets/{case_definition()['hub']}/resolve/{COMMIT}/{name}"


# --- fetching -------------------------------------------------------------------------------------------------------


def test_download_files_fetches_whole_benchmark(tmp_path, hub):
    counts = {}

    def progress(file, n):
        counts[file.name] = counts.get(file.name, 0) + n

    files = download(tmp_path, base=hub.url, progress=progress)
    assert len(files) == 24 + 1 + 12
    assert counts == {file.name: file.size for file in files}
    assert verify_files(tmp_path) == []
    assert not (tmp_path / "README.md").exists()
    before = len(hub.requests)
    assert download(tmp_path, base=hub.url) == files
    assert len(hub.requests) == before + 1  # only the listing


def test_download_files_fetches_selected_categories_and_sets(tmp_path, hub):
    files = download(tmp_path, selected_categories=["codec"], selected_sets=["librispeech"], base=hub.url)
    assert [file.name for file in files if file.name.startswith("audio/")] == ["audio/librispeech_codec.tar.gz"]
    assert [p.relative_to(tmp_path).as_posix() for p in sorted(tmp_path.rglob("*.wav"))] == [
        "librispeech/codec/id1/a.wav",
        "librispeech/codec/id2/a.wav",
    ]
    assert {problem.split(":")[1] for problem in verify_files(tmp_path)} == {
        f" missing (in the list of {condition})"
        for condition in ("clean_clean", *first_conditions_of_other_categories())
    }


def first_conditions_of_other_categories():
    firsts = {category(condition): condition for condition in reversed(condition_names())}
    return [condition for name, condition in firsts.items() if name != "codec"]


@pytest.mark.slow
def test_download_files_resumes(tmp_path, hub):
    name = "audio/librispeech_mic.tar.gz"
    hub.faults = [Fault(name, cut_after=100), *(Fault(name, cut_after=0) for _ in range(6))]
    with pytest.raises(EarmarkError, match=r"librispeech_mic\.tar\.gz: the download is interrupted"):
        download(tmp_path, base=hub.url)
    sent = dict(hub.sent)
    download(tmp_path, base=hub.url)
    assert verify_files(tmp_path) == []
    assert hub.ranges(address(name))[-1] == "bytes=100-"
    files = published()
    assert all(hub.sent[address(n)] == len(files[n]) for n in files if n.endswith((".txt", ".json", ".tar.gz")))
    assert sent[address("audio/voxceleb1_o_clean.tar.gz")] == hub.sent[address("audio/voxceleb1_o_clean.tar.gz")]


def test_download_files_sends_token_to_hub_only(tmp_path, hub):
    with file_server() as store:
        name = address("audio/librispeech_reverb.tar.gz")
        store.files["/blob"] = hub.files[name]
        hub.redirects[name] = f"{store.url}/blob"
        download(
            tmp_path, selected_categories=["reverb"], selected_sets=["librispeech"], base=hub.url, token="hf_verysecret"
        )
        sent = [{key.lower(): value for key, value in headers.items()} for _, headers in hub.requests]
        assert {headers.get("authorization") for headers in sent} == {"Bearer hf_verysecret"}
        assert store.requests
        assert all("hf_verysecret" not in str(headers) for _, headers in store.requests)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"selected_categories": ["clean", "fax"]}, "fax: unknown category. Known: clean, codec, mic"),
        ({"selected_sets": ["voices"]}, "voices: unknown set. Known: voxceleb1_o, librispeech"),
    ],
)
def test_select_files_rejects_unknown_names_before_any_request(tmp_path, hub, choice, message):
    with pytest.raises(MissingError, match=message):
        download(tmp_path, base=hub.url, **choice)
    assert not hub.requests


def test_select_files_reports_files_missing_on_hub(hub):
    hub.data_sets[case_definition()["hub"]].remove("trials/clean_reverb.txt")
    hub.data_sets[case_definition()["hub"]].remove("audio/librispeech_mic.tar.gz")
    with pytest.raises(EarmarkError, match=r"trials/clean_reverb\.txt, audio/librispeech_mic\.tar\.gz not found"):
        select_files(base=hub.url)


def test_download_files_rejects_malicious_archive(tmp_path, hub):
    hub.files[address("audio/librispeech_noise.tar.gz")] = packed({"ok.wav": wav(), "../evil.wav": wav()})
    with pytest.raises(EarmarkError, match=r"librispeech_noise\.tar\.gz: '\.\./evil\.wav' leaves the target directory"):
        download(tmp_path / "case", selected_categories=["noise"], selected_sets=["librispeech"], base=hub.url)
    assert not list(tmp_path.rglob("evil.wav"))
    assert not (tmp_path / "case" / "ok.wav").exists()


# --- on disk --------------------------------------------------------------------------------------------------------


def test_verify_files_accepts_complete_benchmark(benchmark):
    assert verify_files(benchmark) == []
    assert trials_folder(benchmark) == benchmark / "trials"


def test_trials_folder_finds_second_layout(benchmark):
    (benchmark / "benchmark").mkdir()
    (benchmark / "trials").rename(benchmark / "benchmark" / "trials")
    (benchmark / "trials").mkdir()  # contains no CASE lists
    assert trials_folder(benchmark) == benchmark / "benchmark" / "trials"
    assert verify_files(benchmark) == []
    (benchmark / "benchmark/trials/clean_reverb.txt").unlink()
    assert verify_files(benchmark) == ["benchmark/trials/clean_reverb.txt: missing"]


@pytest.mark.parametrize("function", [trials_folder, verify_files])
def test_folder_without_lists_names_download_command(tmp_path, function):
    with pytest.raises(
        MissingError, match=r"No CASE trial lists in .*/trials/ or .*/benchmark/trials/\. .*download --output-dir"
    ):
        function(tmp_path)


CODEC = "librispeech/codec/id2/a.wav"


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda path: path.unlink(), "missing"),
        (lambda path: path.write_bytes(b""), "empty"),
        (lambda path: (path.unlink(), path.mkdir()), "not a file"),
        (lambda path: path.write_bytes(b"no audio at all"), "cannot be read: Format not recognised."),
        (lambda path: path.write_bytes(wav()[:30]), "cannot be read: Error in WAV"),
        (lambda path: path.write_bytes(wav(rate=8000)), "WAV, 8000 Hz, 1 channel; expected WAV, 16 kHz, mono"),
        (lambda path: path.write_bytes(wav(channels=2)), "WAV, 16000 Hz, 2 channels; expected WAV, 16 kHz, mono"),
        (lambda path: path.write_bytes(wav(format="FLAC")), "FLAC, 16000 Hz, 1 channel;"),
        (lambda path: path.write_bytes(wav(seconds=0)), "contains no samples"),
    ],
)
def test_verify_files_reports_invalid_audio_once(benchmark, spoil, problem):
    spoil(benchmark / CODEC)
    problems = verify_files(benchmark)
    assert len(problems) == 1
    assert problems[0].startswith(f"{CODEC}: {problem}")
    assert problems[0].endswith(" (in the list of clean_codec_gsm)")


def test_verify_files_reports_invalid_lines_and_checks_valid_ones(benchmark):
    put(benchmark / "trials/clean_codec_gsm.txt", b"1 x.wav y.wav\n1 z.wav\nmaybe a b\n0 x.wav ./x.wav\n")
    put(benchmark / "trials/clean_reverb.txt", b"")
    put(benchmark / "trials/clean_mic_phone.txt", b"a.wav b.wav\n")
    assert verify_files(benchmark) == [
        "trials/clean_codec_gsm.txt: line 2: has 2 values, expected 3",
        "trials/clean_codec_gsm.txt: line 3, column label: 'maybe' is not one of 1, 0, target, nontarget",
        "trials/clean_mic_phone.txt: not a CASE list; expected lines: `1|0 enrol test`",
        "trials/clean_reverb.txt: line 1: the file contains no trials",
        "x.wav: missing (in the list of clean_codec_gsm)",
        "y.wav: missing (in the list of clean_codec_gsm)",
    ]


def test_verify_files_reports_too_long_name(benchmark):
    put(benchmark / "trials/clean_reverb.txt", b"1 x%s x%s\n" % (b"x" * 300, b"x" * 300))
    assert verify_files(benchmark) == [f"{'x' * 301}: cannot be read: File name too long (in the list of clean_reverb)"]


def test_verify_files_reports_files_outside_folder(benchmark):
    put(benchmark.parent / "outside.wav", wav())
    put(benchmark / "trials/clean_reverb.txt", b"1 ../outside.wav /etc/hostname\n")
    assert verify_files(benchmark) == [
        "../outside.wav: outside the benchmark folder (in the list of clean_reverb)",
        "/etc/hostname: outside the benchmark folder (in the list of clean_reverb)",
    ]
