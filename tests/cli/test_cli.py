import importlib
import json
import shlex
import signal

import click
import fake_palo
import pytest
from click.testing import CliRunner
from fake_palo import ANSWERS

from palo_cpp.cli import COMMANDS, open_model, palo_cpp
from palo_cpp.errors import ModelNotFoundError, OutOfMemoryError
from palo_cpp.languages.languages import LANGUAGES

CODES = list(LANGUAGES)
ANSWERING = ["ask", "describe", "chat"]


@pytest.fixture(autouse=True)
def palo(monkeypatch):
    return fake_palo.install(monkeypatch)


def run(*arguments, **extra):
    return CliRunner().invoke(palo_cpp, [str(argument) for argument in arguments], prog_name="palo-cpp", **extra)


def interrupt(at):
    """Press Ctrl-C before piece number `at`."""

    def during(n):
        if n == at:
            signal.raise_signal(signal.SIGINT)

    return during


# --- the group


def test_help_names_every_command_and_language():
    result = run("--help")
    assert result.exit_code == 0
    assert all(f"{name}  " in result.stdout and text in result.stdout for name, text in COMMANDS.items())
    assert all(language.own_name in result.stdout for language in LANGUAGES.values())


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_documents_itself_and_every_option(name):
    command = importlib.import_module(f"palo_cpp.cli.{name}").command
    result = run(name, "--help")
    assert result.exit_code == 0
    assert command.help.splitlines()[0] == COMMANDS[name]
    assert "Examples:\n" in result.stdout and f"palo-cpp {name}" in result.stdout
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    assert [option.name for option in options if not option.help] == []


@pytest.mark.parametrize("name", ["ask", "chat", "describe"])
def test_what_is_set_for_good_has_an_environment_variable(name):
    command = importlib.import_module(f"palo_cpp.cli.{name}").command
    variables = {
        parameter.name: parameter.envvar for parameter in command.params if isinstance(parameter, click.Option)
    }
    assert variables.pop("debug") is None  # the group reads PALO_CPP_DEBUG, before any command is known
    assert all(variable.startswith("PALO_CPP_") for variable in variables.values())


def test_version():
    result = run("--version")
    assert result.exit_code == 0
    assert result.stdout.startswith("palo-cpp 0.")


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"],
        ["ask"],
        ["ask", "photo.jpg", "--lang", "Klingon"],
        ["ask", "photo.jpg", "--top-p", "2"],
        ["ask", "photo.jpg", "-n", "0"],
        ["ask", "photo.jpg", "--no-such-flag"],
        ["ask", "-", "-"],
        ["chat", "-"],
        ["describe"],
        ["describe", "photo.jpg", "--lang", ","],
        ["describe", "photo.jpg", "--lang", "hi,Klingon"],
        ["convert", "PALO-7B"],
        ["quantize", "model.gguf"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2_and_prints_nothing_on_stdout(arguments):
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Error: " in result.stderr and "Usage: palo-cpp" in result.stderr


def test_an_unknown_language_is_answered_with_the_ten():
    stderr = " ".join(run("ask", "photo.jpg", "--lang", "Klingon").stderr.split())
    assert all(f"{code} ({LANGUAGES[code].english_name})" in stderr for code in CODES)


@pytest.mark.parametrize("error", [ModelNotFoundError("model x: gone; look"), OutOfMemoryError("memory: too small")])
@pytest.mark.parametrize("name", ANSWERING)
def test_an_error_of_ours_is_one_line_and_exit_code_1(monkeypatch, name, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(open_model, "open_palo", fail)
    result = run(name, "photo.jpg", input="")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"palo-cpp: error: {error}\n")


def fail_unexpectedly(*_):
    raise RuntimeError("the bits\nfell out")


def test_an_unexpected_error_is_one_line_with_a_hint(monkeypatch):
    monkeypatch.setattr(open_model, "open_palo", fail_unexpectedly)
    result = run("ask", "photo.jpg")
    assert result.exit_code == 1
    assert result.stderr.startswith(
        "palo-cpp: error: unexpected RuntimeError: the bits fell out; run again with --debug"
    )
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(("flags", "env"), [(["--debug"], {}), ([], {"PALO_CPP_DEBUG": "1"})])
def test_debug_shows_the_traceback(monkeypatch, flags, env):
    monkeypatch.setattr(open_model, "open_palo", fail_unexpectedly)
    result = run("ask", "photo.jpg", *flags, env=env)
    assert result.exit_code == 1
    assert "Traceback" in result.stderr and "fail_unexpectedly" in result.stderr


# --- ask


def test_ask_prints_the_answer_and_nothing_else(palo):
    result = run("ask", "photo.jpg", "What is this?")
    assert (result.exit_code, result.stdout, result.stderr) == (0, ANSWERS["en"] + "\n", "")
    assert palo.images == ["photo.jpg"]
    assert palo.asked == [{"question": "What is this?", "lang": None}]
    assert palo.is_closed


@pytest.mark.parametrize("code", CODES)
def test_ask_in_each_language(palo, code):
    question = LANGUAGES[code].default_question
    result = run("ask", "photo.jpg", question, "--lang", LANGUAGES[code].own_name)
    assert result.stdout == ANSWERS[code] + "\n"
    assert palo.asked == [{"question": question, "lang": code}]


def test_without_a_question_the_library_words_one(palo):
    run("ask", "photo.jpg", "--lang", "Hindi")
    assert palo.asked == [{"question": None, "lang": "hi"}]


def test_the_image_comes_from_stdin(palo):
    assert run("ask", "-", "What is this?", input=b"\xff\xd8 bytes").exit_code == 0
    assert palo.images == [b"\xff\xd8 bytes"]


def test_the_question_comes_from_stdin(palo):
    run("ask", "photo.jpg", "-", input="यह क्या है?\n")
    assert palo.asked[0]["question"] == "यह क्या है?"


@pytest.mark.parametrize("code", CODES)
def test_ask_as_json(code):
    result = run("ask", "photo.jpg", "--lang", code, "--json")
    assert result.stdout.count("\n") == 1
    assert ANSWERS[code] in result.stdout  # readable, not escaped
    said = json.loads(result.stdout)
    assert set(said) == {
        *("text", "token_ids", "finish_reason", "language", "language_detected", "language_ok"),
        *("timings", "inputs", "n_turns_dropped", "warnings"),
    }
    assert said["warnings"] == []
    assert (said["text"], said["language"], said["finish_reason"]) == (ANSWERS[code], code, "stop")
    assert said["inputs"]["images"][0]["size"] == [640, 480]


def test_the_flags_of_llama_cpp(palo):
    flags = "-m models -t 3 -c 2048 -n 64 --temp 0.5 --top-k 40 --top-p 0.9 --min-p 0.1 --seed 7 --preprocess crop"
    flags += " --vision-precision float --backend cpu --draft small --embedding-cache seen"
    arguments = [*shlex.split(flags), "--stop", "END", "--stop", "the end"]
    assert run("ask", "photo.jpg", "Why?", *arguments).exit_code == 0
    options = palo.options
    assert (options.model, options.n_threads, options.n_ctx, options.preprocess) == ("models", 3, 2048, "crop")
    assert (options.vision_precision, options.backend, options.draft) == ("float", "cpu", "small")
    assert options.embedding_cache == "seen"
    assert palo.asked == [
        {
            "question": "Why?",
            "lang": None,
            "max_tokens": 64,
            "temperature": 0.5,
            "top_k": 40,
            "top_p": 0.9,
            "min_p": 0.1,
            "seed": 7,
            "stop": ("END", "the end"),
        }
    ]


@pytest.mark.parametrize("flag", ["-n", "--predict", "--n-predict", "--max-tokens"])
def test_the_spellings_of_the_longest_answer(palo, flag):
    run("ask", "photo.jpg", flag, "5")
    assert palo.asked[0]["max_tokens"] == 5


@pytest.mark.parametrize("name", ANSWERING)
def test_environment_variables_stand_for_flags(palo, name):
    env = {
        "PALO_CPP_MODEL": "models",
        "PALO_CPP_THREADS": "3",
        "PALO_CPP_CTX_SIZE": "512",
        "PALO_CPP_LANG": "ur",
        "PALO_CPP_PREDICT": "9",
        "PALO_CPP_TEMP": "0",
        "PALO_CPP_TOP_K": "4",
        "PALO_CPP_TOP_P": "0.5",
        "PALO_CPP_MIN_P": "0",
        "PALO_CPP_SEED": "1",
        "PALO_CPP_STOP": "the end\nEND",
        "PALO_CPP_PREPROCESS": "pad",
        "PALO_CPP_VISION_PRECISION": "float",
        "PALO_CPP_BACKEND": "palo",
        "PALO_CPP_DRAFT": "small",
        "PALO_CPP_EMBEDDING_CACHE": "seen",
    }
    result = run(name, "photo.jpg", env=env, input="؟\n")
    assert result.stdout == ANSWERS["ur"] + "\n"
    expected = {"model": "models", "n_threads": 3, "n_ctx": 512, "preprocess": "pad", "vision_precision": "float"}
    assert vars(palo.options) == expected | {"backend": "palo", "draft": "small", "embedding_cache": "seen"}
    asked = {key: value for key, value in palo.asked[0].items() if key != "question"}
    assert asked == {
        "lang": "ur",
        "max_tokens": 9,
        "temperature": 0.0,
        "top_k": 4,
        "top_p": 0.5,
        "min_p": 0.0,
        "seed": 1,
        "stop": ("the end", "END"),
    }


def test_a_flag_wins_over_its_environment_variable(palo):
    run("ask", "photo.jpg", "--lang", "ja", env={"PALO_CPP_LANG": "ur"})
    assert palo.asked[0]["lang"] == "ja"


def test_ctrl_c_ends_the_answer_with_130_and_keeps_what_was_said(palo):
    palo.pieces, palo.during = ["One. ", "Two. ", "Three."], interrupt(1)
    before = signal.getsignal(signal.SIGINT)
    result = run("ask", "photo.jpg")
    assert (result.exit_code, result.stdout, result.stderr) == (130, "One. Two. \n", "")
    assert signal.getsignal(signal.SIGINT) is before
    assert palo.is_closed


def test_ctrl_c_before_the_first_word_ends_at_once(palo):
    palo.during = interrupt(0)
    result = run("ask", "photo.jpg", "--json")
    assert (result.exit_code, result.stdout) == (130, "")


@pytest.mark.parametrize(
    ("reason", "warning"),
    [
        ("length", "cut at 2 tokens"),
        ("context", "context is full"),
        ("repetition", "only repeated itself"),
        ("stop_string", ""),
    ],
)
def test_an_answer_that_was_cut_is_said_to_be(palo, reason, warning):
    palo.pieces, palo.finish_reason = ["One ", "two"], reason
    result = run("ask", "photo.jpg")
    assert result.stdout == "One two\n"
    assert warning in result.stderr and bool(result.stderr) == bool(warning)


def test_a_bad_image_is_one_line():
    result = run("ask", "missing.jpg")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "palo-cpp: error: missing.jpg: expected an image, got no file there; check the path\n"


# --- describe


def test_describe_one_image_in_english_by_default():
    result = run("describe", "photo.jpg")
    assert (result.exit_code, result.stdout) == (0, ANSWERS["en"] + "\n")


def test_describe_in_all_languages():
    lines = run("describe", "photo.jpg", "--lang", "all").stdout.splitlines()
    assert lines[::2] == [f"== photo.jpg · {LANGUAGES[code].own_name} ({code})" for code in CODES]
    assert lines[1::2] == list(ANSWERS.values())


@pytest.mark.parametrize("names", ["hi,ur", "Hindi, اردو", "हिन्दी، ur", "hi、ur,hi"])
def test_describe_in_several_languages(names):
    said = json.loads(run("describe", "photo.jpg", "--lang", names, "--json").stdout)
    assert said["images"][0]["image"] == "photo.jpg"
    assert {code: answer["text"] for code, answer in said["images"][0]["answers"].items()} == {
        "hi": ANSWERS["hi"],
        "ur": ANSWERS["ur"],
    }


def test_one_bad_image_does_not_stop_the_others():
    result = run("describe", "a.jpg", "missing.jpg", "b.jpg", "--lang", "ja")
    assert result.exit_code == 1
    assert result.stdout == f"== a.jpg · 日本語 (ja)\n{ANSWERS['ja']}\n== b.jpg · 日本語 (ja)\n{ANSWERS['ja']}\n"
    assert (
        result.stderr.startswith("palo-cpp: error: missing.jpg: expected an image") and result.stderr.count("\n") == 1
    )


def test_one_bad_image_in_json():
    result = run("describe", "missing.jpg", "b.jpg", "--json")
    assert result.exit_code == 1
    images = json.loads(result.stdout)["images"]
    assert [image["image"] for image in images] == ["missing.jpg", "b.jpg"]
    assert images[0]["error"].startswith("missing.jpg: expected an image")
    assert images[1]["answers"]["en"]["text"] == ANSWERS["en"]


@pytest.mark.parametrize("arguments", [["a.jpg"], ["a.jpg", "b.jpg"], ["a.jpg", "--lang", "all", "--json"]])
def test_ctrl_c_ends_the_descriptions(palo, arguments):
    palo.during = interrupt(1)
    result = run("describe", *arguments)
    assert result.exit_code == 130
    assert result.stdout == (ANSWERS["en"][:2] + "\n" if arguments == ["a.jpg"] else "")
