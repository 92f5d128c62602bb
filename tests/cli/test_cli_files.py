"""convert, quantize and show: once with stand-ins for the library, once for real on the small checkpoint."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import fake_palo
import palo_cpp.convert
import pytest
from click.testing import CliRunner
from palo_cpp.convert import Progress

from palo_cpp.cli import palo_cpp as group
from palo_cpp.cli import progress
from palo_cpp.errors import ModelFormatError


@pytest.fixture(autouse=True)
def palo(monkeypatch):
    return fake_palo.install(monkeypatch)


def run(*arguments, **extra):
    return CliRunner().invoke(group, [str(argument) for argument in arguments], prog_name="palo-cpp", **extra)


@dataclass
class FakePlan:
    warnings: list[str]
    languages: tuple[str, ...] = ("en", "hi")

    def __str__(self):
        return "3 tensors"

    def to_dict(self):
        return {"n_tensors": 3}


@dataclass
class FakeConversion:
    plan: FakePlan
    paths: dict[str, Path] = field(
        default_factory=lambda: {
            "text": Path("models/PALO-7B-Q4_K_M.gguf"),
            "mmproj": Path("models/mmproj-PALO-7B-F16.gguf"),
        }
    )


@pytest.fixture
def converted(monkeypatch):
    """What `convert` was called with."""
    calls = []

    def convert(source, output, *, progress, **options):
        calls.append({"source": source, "output": output, **options})
        for n in range(4):
            progress(Progress(n, 3, 100 * n, 300, f"blk.{n}"))
        return FakeConversion(FakePlan(["the tower inside differs from the one given"]))

    monkeypatch.setattr(palo_cpp.convert, "convert", convert)
    return calls


def test_convert_says_where_the_files_are_and_what_to_try_next(converted):
    result = run("convert", "PALO-7B", "-o", "my models")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "language model: models/PALO-7B-Q4_K_M.gguf",
        "vision:         models/mmproj-PALO-7B-F16.gguf",
        "",
        "Try it:",
        "  palo-cpp chat photo.jpg -m 'my models' --lang hi",
    ]
    assert result.stderr == "palo-cpp: warning: the tower inside differs from the one given\n"
    none = {"vision_tower": None, "base": None, "name": None}
    assert converted == [
        {
            "source": "PALO-7B",
            "output": "my models",
            "outtype": "f16",
            "mmproj_outtype": "f16",
            "dry_run": False,
            **none,
        }
    ]


@pytest.mark.usefixtures("converted")
def test_convert_names_a_language_that_the_model_knows(monkeypatch):
    monkeypatch.setattr(FakePlan.__init__, "__defaults__", (("zh", "en"),))
    assert run("convert", "VisCPM-Chat", "-o", "out").stdout.endswith("-m out --lang zh\n")


def test_convert_hands_every_flag_on(converted):
    flags = ["--vision-tower", "clip", "--base", "vicuna", "--outtype", "q4_k_m", "--name", "mine"]
    assert run("convert", "lora", "-o", "out", *flags, "--mmproj-outtype", "q8_0", "--dry-run").stdout == "3 tensors\n"
    assert converted[0] == {
        "source": "lora",
        "output": "out",
        "vision_tower": "clip",
        "base": "vicuna",
        "outtype": "q4_k_m",
        "mmproj_outtype": "q8_0",
        "name": "mine",
        "dry_run": True,
    }


@pytest.mark.usefixtures("converted")
def test_convert_as_json():
    assert json.loads(run("convert", "PALO-7B", "-o", "out", "--json").stdout) == {
        "model": "models/PALO-7B-Q4_K_M.gguf",
        "mmproj": "models/mmproj-PALO-7B-F16.gguf",
        "plan": {"n_tensors": 3},
    }
    assert json.loads(run("convert", "PALO-7B", "-o", "out", "--dry-run", "--json").stdout) == {
        "plan": {"n_tensors": 3}
    }


@pytest.mark.usefixtures("converted")
def test_the_progress_bar_goes_to_a_terminal_only(monkeypatch):
    assert "tensors" not in run("convert", "PALO-7B", "-o", "out").stderr
    monkeypatch.setattr(progress, "is_terminal", lambda _: True)
    result = run("convert", "PALO-7B", "-o", "out", env={"COLUMNS": "120", "FORCE_COLOR": "1"})
    assert "3/3 tensors" in result.stderr and "300/300 bytes" in result.stderr
    assert "tensors" not in result.stdout


def test_a_checkpoint_that_is_refused(monkeypatch):
    message = "evil.bin: expected tensors, got a call of os.system; do not use this file"

    def convert(*_, **__):
        raise ModelFormatError(message)

    monkeypatch.setattr(palo_cpp.convert, "convert", convert)
    result = run("convert", "evil", "-o", "out")
    assert (result.exit_code, result.stdout) == (1, "")
    assert (
        result.stderr == "palo-cpp: error: evil.bin: expected tensors, got a call of os.system; do not use this file\n"
    )


def test_ctrl_c_while_converting(monkeypatch):
    def convert(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(palo_cpp.convert, "convert", convert)
    result = run("convert", "PALO-7B", "-o", "out")
    assert (result.exit_code, result.stdout, result.stderr.strip()) == (130, "", "")


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (5 << 20, "5.0 MiB"), (9 << 40, "9216.0 GiB")],
)
def test_sizes_as_people_read_them(n_bytes, text):
    assert progress.readable_size(n_bytes) == text


# --- for real


def test_convert_a_checkpoint(checkpoint_dir, tmp_path):
    said = json.loads(run("convert", checkpoint_dir, "-o", tmp_path, "--outtype", "q8_0", "--json").stdout)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["PALO-Small-Q8_0.gguf", "mmproj-PALO-Small-F16.gguf"]
    assert said["model"] == str(tmp_path / "PALO-Small-Q8_0.gguf")


def test_a_dry_run_writes_nothing(checkpoint_dir, tmp_path):
    result = run("convert", checkpoint_dir, "-o", tmp_path / "out", "--dry-run")
    assert result.exit_code == 0
    assert "token_embd.weight" in result.stdout and "v.patch_embd.weight" in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_no_checkpoint_there(tmp_path):
    result = run("convert", tmp_path / "nothing", "-o", tmp_path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("palo-cpp: error: ") and result.stderr.count("\n") == 1


def test_quantize_into_a_folder_that_is_not_there_yet(model_dir, tmp_path):
    source = model_dir / "PALO-Small-F16.gguf"
    result = run("quantize", source, "q4_k_m", "-o", tmp_path / "small")
    target = tmp_path / "small" / "PALO-Small-Q4_K_M.gguf"
    assert result.stdout == f"{target}: 3.2 MiB -> {progress.readable_size(target.stat().st_size)}\n"
    assert target.stat().st_size < source.stat().st_size / 2


def test_quantize_beside_the_file_and_to_a_name(model_dir, tmp_path):
    source = Path(shutil.copy(model_dir / "PALO-Small-F16.gguf", tmp_path))
    assert json.loads(run("quantize", source, "q8_0", "--json").stdout) == {
        "path": str(tmp_path / "PALO-Small-Q8_0.gguf"),
        "outtype": "q8_0",
        "n_bytes_before": source.stat().st_size,
        "n_bytes": (tmp_path / "PALO-Small-Q8_0.gguf").stat().st_size,
    }
    assert run("quantize", source, "q4_0", "-o", tmp_path / "mine.gguf").exit_code == 0
    assert (tmp_path / "mine.gguf").is_file()


def test_quantize_to_an_unknown_type(model_dir, tmp_path):
    result = run("quantize", model_dir / "PALO-Small-F16.gguf", "q99", "-o", tmp_path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "q99" in result.stderr and "q4_k_m" in result.stderr


@pytest.mark.parametrize(("name", "kind"), [("PALO-Small-F16.gguf", "text"), ("mmproj-PALO-Small-F16.gguf", "mmproj")])
def test_show_either_file(model_dir, name, kind):
    said = json.loads(run("show", model_dir / name, "--json").stdout)
    assert (said["kind"], said["name"], said["languages"][:3]) == (kind, "PALO-Small", ["en", "zh", "hi"])
    text = run("show", model_dir / name).stdout
    assert "PALO-Small" in text and said["pair_id"] in text


def test_show_something_else(tmp_path):
    (tmp_path / "photo.gguf").write_bytes(b"\xff\xd8\xff\xe0 no GGUF file")
    result = run("show", tmp_path / "photo.gguf")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("palo-cpp: error: photo.gguf: expected a GGUF file")


def test_show_a_folder(model_dir):
    said = json.loads(run("show", model_dir, "--json").stdout)
    assert [file["kind"] for file in said] == ["text", "mmproj"]
    assert [Path(file["path"]).name for file in said] == ["PALO-Small-F16.gguf", "mmproj-PALO-Small-F16.gguf"]
    result = run("show", model_dir)
    assert result.exit_code == 0
    one_by_one = [run("show", model_dir / Path(file["path"]).name).stdout for file in said]
    assert result.stdout == "\n".join(one_by_one)


def test_show_several_files_and_go_on_after_one_that_fails(model_dir, tmp_path):
    (tmp_path / "मॉडल.gguf").write_bytes(b"\xff\xd8\xff\xe0 no GGUF file")
    (tmp_path / "empty").mkdir()
    good = model_dir / "PALO-Small-F16.gguf"
    places = [tmp_path / "missing.gguf", good, tmp_path, tmp_path / "empty", good]
    result = run("show", *places)
    assert result.exit_code == 1
    assert result.stdout.count("PALO-Small-F16.gguf") == 2
    assert result.stdout.startswith("file ")
    errors = result.stderr.splitlines()
    assert [line.split(":")[2].strip() for line in errors] == [
        str(tmp_path / name) for name in ("missing.gguf", "मॉडल.gguf", "empty")
    ]
    assert errors[2].endswith("expected GGUF files, got none; `palo-cpp convert` makes them")
    result = run("show", "--json", *places)
    said = json.loads(result.stdout)
    assert result.exit_code == 1
    assert ["error" in file for file in said] == [True, False, True, True, False]
    assert said[0]["path"] == str(tmp_path / "missing.gguf")


def test_show_a_folder_without_models(tmp_path):
    result = run("show", tmp_path, "--json")
    assert (result.exit_code, json.loads(result.stdout)[0]["path"]) == (1, str(tmp_path))
    assert result.stderr.startswith(f"palo-cpp: error: {tmp_path}: expected GGUF files, got none")


def test_show_one_file_prints_one_object_however_it_is_named(model_dir):
    assert isinstance(json.loads(run("show", model_dir / "PALO-Small-F16.gguf", "--json").stdout), dict)
    assert run("show").exit_code == 2
