"""`palo-cpp recommend` on machines of several sizes, in each language, as JSON; once with a real measurement."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import replace

import pytest
from click.testing import CliRunner

from palo_cpp import machine
from palo_cpp.bench import machine_speed
from palo_cpp.cli import palo_cpp as group
from palo_cpp.cli.recommend import about, about_size, as_text, prediction_text
from palo_cpp.families.palo.published import PUBLISHED
from palo_cpp.languages.languages import LANGUAGES
from palo_cpp.models.recommendation import OUTTYPES, MachineSpeed, Prediction, recommend

GIB = 1 << 30
LAPTOP = MachineSpeed("avx2", 2, 21e9, 95e9, dict.fromkeys(OUTTYPES, 110e9), dict.fromkeys(OUTTYPES, 30e9))


def run(*arguments: str):
    return CliRunner().invoke(group, ["recommend", *arguments], prog_name="palo-cpp")


@pytest.fixture
def laptop(monkeypatch):
    """Make this a laptop of that many GiB; what was measured is known."""

    def of(total: int, speed: MachineSpeed = LAPTOP) -> None:
        monkeypatch.setattr(machine_speed, "measure_speed", lambda **_: speed)
        monkeypatch.setattr(machine, "memory_total", lambda: total * GIB)
        monkeypatch.setattr(machine, "memory_available", lambda: total * GIB - 3 * GIB // 2)

    return of


def cells(output: str) -> dict[str, list[str]]:
    """Rows of the table by model and type."""
    rows = [line.split() for line in output.splitlines() if line.split()[:1] and line.split()[0] in PUBLISHED]
    return {f"{row[0]} {row[1]}": row[2:] for row in rows}


@pytest.mark.parametrize("code", LANGUAGES)
def test_each_language_has_its_scores_and_speed(laptop, code):
    laptop(16)
    done = run("--lang", LANGUAGES[code].own_name)
    assert done.exit_code == 0, done.output
    rows = cells(done.stdout)
    assert len(rows) == 9
    assert [rows[f"{name} q4_k_m"][-1] for name in PUBLISHED] == [f"{PUBLISHED[n].score(code):.1f}" for n in PUBLISHED]
    assert f"in {LANGUAGES[code].english_name}" in done.stdout
    assert "GPT-4" in done.stdout and "arXiv 2402.14818" in done.stdout.replace("\n", " ")


def test_without_a_language_it_is_the_average(laptop):
    laptop(16)
    done = run()
    assert cells(done.stdout)["13b q4_0"][-1] == "62.0"
    assert "on average over the languages" in done.stdout.replace("\n", " ")
    assert done.stdout.endswith("\n  palo-cpp pull 7b --outtype q4_k_m\n")


@pytest.mark.parametrize(("total", "command"), [(4, "pull mobile --outtype q8_0"), (8, "pull 7b --outtype q4_k_m")])
def test_the_last_line_is_the_command(laptop, total, command):
    laptop(total)
    done = run("--lang", "ja")
    assert done.stdout.splitlines()[-1].strip() == f"palo-cpp {command}"
    assert cells(done.stdout)["13b q8_0"][0] == "no"


def test_a_weak_language_is_told_with_its_score(laptop):
    laptop(4)
    text = " ".join(run("--lang", "bn").stdout.split())
    assert "Recommended: mobile as q4_k_m, " in text and "in time; it is weak in Bengali (19.9 of 100)." in text


def test_where_nothing_fits_it_says_so_and_what_nano_is(laptop):
    laptop(2)
    text = " ".join(run().stdout.split())
    assert "None fits: the smallest, mobile as q4_0, needs 1.5 GiB of memory" in text
    assert "it fits when other programs are closed" in text
    assert text.endswith("nano, a demo that knows simple drawings only.")
    assert "pull" not in text


def test_as_json(laptop):
    laptop(8)
    found = json.loads(run("--lang", "hi", "--json").stdout)
    assert found["command"] == "palo-cpp pull 7b --outtype q4_k_m" and found["recommended"]["score"] == 57.6
    assert {each["fits"] for each in found["models"]} == {"yes", "no"} or "tight" in str(found)
    laptop(1)
    assert json.loads(run("--json").stdout)["recommended"] is None


def test_unknown_language_is_wrong_usage():
    done = run("--lang", "klingon")
    assert done.exit_code == 2
    assert "expected one of the ten, got 'klingon'" in " ".join(done.stderr.split())


def test_a_busy_machine_is_told(laptop):
    laptop(8, replace(LAPTOP, is_noisy=True))
    assert "Other programs are busy" in run().stdout
    laptop(8)
    assert "Other programs are busy" not in run().stdout


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("total", [2, 4, 64])
def test_no_line_is_wider_than_the_terminal(width, total):
    found = recommend(LAPTOP, available=total * GIB - GIB, total=total * GIB, language="hi")
    lines = as_text(found, width).splitlines()
    assert max(map(len, lines)) <= width
    assert all(unicodedata.category(character)[0] != "C" for line in lines for character in line)


@pytest.mark.parametrize(
    ("value", "text"), [(0.037, "0.04"), (0.42, "0.4"), (4.16, "4.2"), (9.96, "10"), (37.4, "37"), (143.0, "140")]
)
def test_predictions_are_rounded(value, text):
    assert about(value) == text


def test_sentence_for_a_plan():
    needs = Prediction(int(5.25 * GIB), int(4.38 * GIB), 36.2, 0.79)
    assert about_size(needs.disk_bytes) == "4.4 GiB"
    assert prediction_text(needs, "in Hindi") == (
        "takes about 5.2 GiB of memory and 4.4 GiB of disk; on this machine about 36 s to the first word about an "
        "image, then about 0.8 words per second in Hindi"
    )


def test_a_real_measurement():
    done = run("--lang", "ur", "--threads", "1", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["machine"]["n_threads"] == 1
    assert found["machine"]["memory_available_bytes"] == pytest.approx(machine.memory_available(), rel=0.2)
    words = {each["model"]: each["words_per_s"] for each in found["models"] if each["outtype"] == "q4_k_m"}
    assert words["mobile"] > words["7b"] > words["13b"] > 0
