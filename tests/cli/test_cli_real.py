"""The command as a user starts it, on the small checkpoint: nothing is replaced."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from palo_cpp.languages.languages import LANGUAGES


@pytest.fixture(scope="module")
def photo(tmp_path_factory, picture):
    path = tmp_path_factory.mktemp("photo") / "तस्वीर.png"
    Image.fromarray(np.asarray(picture)).save(path)
    return path


def palo_cpp(*arguments, stdin=b"", **environment):
    env = {name: value for name, value in os.environ.items() if not name.startswith("PALO_CPP_")}
    command = [sys.executable, "-m", "palo_cpp", *map(str, arguments)]
    return subprocess.run(
        command, input=stdin, env={**env, **environment}, capture_output=True, check=False, timeout=120
    )


def test_ask_prints_what_the_library_answers(palo, photo, model_dir):
    result = palo_cpp("ask", photo, "-m", model_dir, "-n", "24", "-t", "2", LC_ALL="C")
    expected = palo.ask(photo, max_tokens=24)
    assert (result.returncode, result.stdout.decode()) == (0, expected.text + "\n")
    assert bool(result.stderr) == (expected.finish_reason == "length")


def test_ask_in_a_language_prints_what_the_library_streams(palo, photo, model_dir):
    """Both show what they write at once; `Palo.ask` may write an answer again that is in another language."""
    result = palo_cpp("ask", photo, "-m", model_dir, "--lang", "hi", "-n", "24", "-t", "2", LC_ALL="C")
    with palo.stream(photo, lang="hi", max_tokens=24) as stream:
        text = "".join(piece.text for piece in stream)
    assert (result.returncode, result.stdout.decode()) == (0, text + "\n")
    assert ("cut at 24 tokens" in result.stderr.decode()) == (stream.answer.finish_reason == "length")


def test_an_image_on_stdin_and_json(palo, photo, model_dir):
    result = palo_cpp(
        *("ask", "-", "What is this?", "--json"),
        stdin=photo.read_bytes(),
        PALO_CPP_MODEL=str(model_dir),
        PALO_CPP_PREDICT="8",
    )
    said, expected = json.loads(result.stdout), palo.ask(photo, "What is this?", max_tokens=8).to_dict()
    assert {key: said[key] for key in ("text", "token_ids", "finish_reason", "language", "inputs")} == {
        key: expected[key] for key in ("text", "token_ids", "finish_reason", "language", "inputs")
    }
    assert said["timings"]["encode_s"] > 0


def test_an_image_is_encoded_once_for_all_processes(photo, model_dir, tmp_path):
    n_encoded, texts = [], set()
    for command in ("ask", "ask", "chat"):
        flags = ("-m", model_dir, "-n", "8", "--json", "--embedding-cache", tmp_path / "seen")
        said = json.loads(palo_cpp(command, photo, *flags, stdin="यह क्या है?\n".encode()).stdout)
        n_encoded.append(said["timings"]["n_images_encoded"])
        texts.add(said["text"] if command == "ask" else "")
    assert n_encoded == [1, 0, 0] and len(texts) == 2


def test_a_piped_conversation(palo, photo, model_dir):
    result = palo_cpp(
        *("chat", photo, "-m", model_dir, "--lang", "ur", "-n", "8", "--json"), stdin="یہ کیا ہے؟\nWhat?\n".encode()
    )
    with palo.chat(photo, lang="ur") as chat:
        expected = [chat.ask(question, max_tokens=8).text for question in ("یہ کیا ہے؟", "What?")]
    assert [json.loads(line)["text"] for line in result.stdout.splitlines()] == expected


def test_a_conversation_goes_on_in_another_process_without_its_photo(palo, photo, model_dir, tmp_path):
    flags = ("-m", model_dir, "--session", tmp_path / "सत्र.palo", "-n", "8", "--json")
    palo_cpp("chat", photo, *flags, "--lang", "hi", stdin="यह क्या है?\n".encode())
    said = json.loads(palo_cpp("chat", *flags, stdin="और?\n".encode()).stdout)
    with palo.chat(photo, lang="hi") as chat:
        chat.ask("यह क्या है?", max_tokens=8)
        expected = chat.ask("और?", max_tokens=8)
    assert (said["text"], said["token_ids"]) == (expected.text, list(expected.token_ids))
    assert said["timings"]["n_cached_tokens"] == expected.timings.n_cached_tokens
    assert said["timings"]["n_images_encoded"] == 0


def test_describe_in_all_languages(palo, photo, model_dir):
    result = palo_cpp("describe", photo, "-m", model_dir, "--lang", "all", "-n", "6", "--json")
    answers = json.loads(result.stdout)["images"][0]["answers"]
    expected = palo.describe(photo, max_tokens=6)
    assert list(answers) == list(LANGUAGES)
    assert {code: answer["text"] for code, answer in answers.items()} == {
        code: answer.text for code, answer in expected.items()
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.jpg"], "missing.jpg"),
        ([__file__], "test_cli_real.py"),
        (
            ["PHOTO", "-m", "nowhere"],
            "model nowhere: expected a folder, a GGUF file or ORG/NAME on the hub, got nothing",
        ),
        (["PHOTO", "-c", "16"], "at most 15 tokens"),
    ],
)
def test_what_goes_wrong_is_one_line(photo, model_dir, arguments, message):
    arguments = [str(photo) if argument == "PHOTO" else argument for argument in arguments]
    result = palo_cpp("ask", *arguments, PALO_CPP_MODEL=str(model_dir))
    stderr = result.stderr.decode()
    assert (result.returncode, result.stdout) == (1, b"")
    assert stderr.startswith("palo-cpp: error: ") and stderr.count("\n") == 1
    assert message in stderr and "unexpected" not in stderr
