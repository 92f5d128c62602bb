"""Clients that real people use, each its own way: image, stream, second turn, leaving early, an error."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from running_server import data_uri, encoded, image_part, text_part

QUESTION, SECOND = "What is this?", "What colour is it?"
LONG = {"temperature": 100, "max_tokens": 900}  # says anything for long


@pytest.fixture(scope="module")
def expected(nano, red_circle):
    """What the library answers to both questions."""
    with nano.chat(red_circle) as chat:
        return chat.ask(QUESTION).text, chat.ask(SECOND).text


@pytest.fixture
def photo(tmp_path, red_circle):
    path = tmp_path / "लाल.png"
    path.write_bytes(red_circle)
    return path


def cancelled(server):
    """How many answers were ended because nobody waited for them."""
    return server.metric("palo_answers_total", 'reason="cancelled"')


def ended_early(server, before):
    """Whether one more answer was."""
    return server.idle(5) and cancelled(server) == before + 1


class TestOpenAi:
    @pytest.fixture
    def client(self, server):
        openai = pytest.importorskip("openai", reason="the openai package is not installed")
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
            yield client

    @pytest.fixture
    def asked(self, red_circle):
        return [{"role": "user", "content": [text_part(QUESTION), image_part(red_circle)]}]

    def test_question_and_second_turn(self, client, asked, expected):
        first = client.chat.completions.create(model="PALO-Nano", messages=asked).choices[0].message
        more = [*asked, first.model_dump(exclude_none=True), {"role": "user", "content": SECOND}]
        second = client.chat.completions.create(model="PALO-Nano", messages=more).choices[0].message
        assert (first.content, second.content) == expected

    def test_stream(self, client, asked, expected):
        options = {"stream_options": {"include_usage": True}, "extra_body": {"lang": "auto"}}
        stream = client.chat.completions.create(model="PALO-Nano", messages=asked, stream=True, **options)
        chunks = list(stream)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == expected[0]
        assert chunks[-1].usage.completion_tokens > 0

    def test_leaving_early(self, client, server, asked):
        before = cancelled(server)
        stream = client.chat.completions.create(model="PALO-Nano", messages=asked, stream=True, **LONG)
        next(iter(stream))
        stream.close()
        assert ended_early(server, before)

    def test_error(self, client, asked):
        import openai

        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(model="PALO-Nano", messages=asked, presence_penalty=1)
        assert refused.value.param == "presence_penalty"
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="gpt-5", messages=asked)

    def test_what_is_parsed(self, client, asked):
        pydantic = pytest.importorskip("pydantic")

        class Drawing(pydantic.BaseModel):
            colour: str
            is_round: bool

        # A small model writes text without end: one that is cut is no JSON, which the client says.
        import openai

        try:
            parsed = client.chat.completions.parse(
                model="PALO-Nano", messages=asked, response_format=Drawing, max_tokens=300
            )
        except openai.LengthFinishReasonError:
            return
        assert isinstance(parsed.choices[0].message.parsed, Drawing)

    def test_responses(self, client, red_circle, expected):
        parts = [{"type": "input_text", "text": QUESTION}, {"type": "input_image", "image_url": data_uri(red_circle)}]
        asked = [{"role": "user", "content": parts}]
        first = client.responses.create(model="PALO-Nano", input=asked)
        more = [*asked, *(item.model_dump(exclude_none=True) for item in first.output)]
        second = client.responses.create(model="PALO-Nano", input=[*more, {"role": "user", "content": SECOND}])
        assert (first.output_text, second.output_text) == expected
        with client.responses.stream(model="PALO-Nano", input=asked) as stream:
            assert "".join(e.delta for e in stream if e.type == "response.output_text.delta") == expected[0]
            assert stream.get_final_response().output_text == expected[0]

    def test_models(self, client):
        assert [model.id for model in client.models.list()] == ["PALO-Nano"]


class TestOllama:
    @pytest.fixture
    def client(self, server):
        ollama = pytest.importorskip("ollama", reason="the ollama package is not installed")
        with ollama.Client(server.url) as client:
            yield client

    @pytest.fixture
    def asked(self, red_circle):
        return [{"role": "user", "content": QUESTION, "images": [red_circle]}]

    def test_question_and_second_turn(self, client, asked, expected):
        first = client.chat("PALO-Nano", asked).message
        second = client.chat("PALO-Nano", [*asked, first, {"role": "user", "content": SECOND}]).message
        assert (first.content, second.content) == expected

    def test_stream(self, client, asked, expected):
        parts = list(client.chat("PALO-Nano", asked, stream=True))
        assert "".join(part.message.content for part in parts) == expected[0] and parts[-1].done

    def test_an_image_by_its_path(self, client, photo, expected):
        assert client.generate("PALO-Nano", QUESTION, images=[photo]).response == expected[0]

    def test_leaving_early(self, client, server, asked):
        before = cancelled(server)
        stream = client.chat("PALO-Nano", asked, stream=True, options={"temperature": 100, "num_predict": 900})
        next(stream)
        stream.close()
        assert ended_early(server, before)

    def test_error(self, client, asked):
        import ollama

        with pytest.raises(ollama.ResponseError, match=r"options\.mirostat: expected"):
            client.chat("PALO-Nano", asked, options={"mirostat": 1})
        with pytest.raises(ollama.ResponseError) as refused:
            client.chat("llava", asked)
        assert refused.value.status_code == 404

    def test_what_there_is(self, client):
        assert [model.model for model in client.list().models] == ["PALO-Nano:latest"]
        assert client.ps().models[0].context_length > 0
        assert client.show("PALO-Nano").capabilities == ["completion", "vision"]


def _has_distribution(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


class TestLlm:
    @pytest.fixture
    def llm(self, server, tmp_path):
        if not _has_distribution("llm"):  # a folder of tests has that name, too
            pytest.skip("llm is not installed")  # in the extra `clients`, which only developers need
        said = {"model_id": "palo", "model_name": "PALO-Nano", "api_base": f"{server.url}/v1", "vision": True}
        said["supports_schema"] = True
        other = {**said, "model_id": "other", "model_name": "gpt-5"}
        (tmp_path / "extra-openai-models.yaml").write_text(json.dumps([said, other]))  # JSON is YAML
        return lambda *arguments: (
            [sys.executable, "-m", "llm", *arguments],
            {**os.environ, "LLM_USER_PATH": str(tmp_path), "OPENAI_API_KEY": "none"},
        )

    def run(self, llm, *arguments):
        command, env = llm(*arguments)
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=120)

    @pytest.mark.parametrize("flags", [(), ("--no-stream",)])
    def test_question_and_second_turn(self, llm, photo, expected, flags):
        first = self.run(llm, "prompt", "-m", "palo", "-a", str(photo), QUESTION, *flags)
        second = self.run(llm, "prompt", "-c", SECOND, *flags)
        assert (first.stdout.strip(), second.stdout.strip()) == expected, first.stderr + second.stderr

    def test_leaving_early(self, llm, server, photo):
        before = cancelled(server)
        # A schema whose answers are long.
        texts = {"type": "array", "items": {"type": "string", "minLength": 100}, "minItems": 100}
        schema = json.dumps({"type": "object", "properties": {"texts": texts}, "required": ["texts"]})
        command, env = llm(
            "prompt", "-m", "palo", "-a", str(photo), "--schema", schema, "-o", "temperature", "2", QUESTION
        )
        child = subprocess.Popen(command, env=env, stdout=subprocess.PIPE)
        child.stdout.read(1)
        child.kill()
        child.stdout.close()
        child.wait()
        assert ended_early(server, before)

    def test_error(self, llm):
        result = self.run(llm, "prompt", "-m", "other", "x")
        assert result.returncode == 1 and "expected PALO-Nano, got gpt-5" in result.stderr


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
class TestCurl:
    def run(self, server, path, body, *flags):
        command = ["curl", "-sS", "-N", f"{server.url}{path}", "-d", "@-", *flags]
        return subprocess.run(
            command, input=json.dumps(body).encode(), capture_output=True, check=True, timeout=120
        ).stdout  # fmt: skip

    def test_question_and_second_turn(self, server, red_circle, expected):
        asked = [{"role": "user", "content": QUESTION, "images": [encoded(red_circle)]}]
        first = json.loads(self.run(server, "/api/chat", {"messages": asked, "stream": False}))["message"]
        more = [*asked, first, {"role": "user", "content": SECOND}]
        second = json.loads(self.run(server, "/api/chat", {"messages": more, "stream": False}))["message"]
        assert (first["content"], second["content"]) == expected

    def test_stream(self, server, red_circle, expected):
        messages = [{"role": "user", "content": [image_part(red_circle), text_part(QUESTION)]}]
        said = self.run(server, "/v1/chat/completions", {"messages": messages, "stream": True}).decode()
        chunks = [json.loads(line[6:]) for line in said.splitlines() if line.startswith("data: {")]
        assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == expected[0]

    def test_leaving_early(self, server):
        before = cancelled(server)
        body = json.dumps({"messages": [{"role": "user", "content": "x"}], "stream": True, **LONG})
        command = ["curl", "-sS", "-N", f"{server.url}/v1/chat/completions", "-d", body]
        child = subprocess.Popen(command, stdout=subprocess.PIPE)
        child.stdout.read(300)
        child.kill()
        child.stdout.close()
        child.wait()
        assert ended_early(server, before)

    def test_error(self, server):
        said = self.run(server, "/v1/chat/completions", {"messages": []}, "-w", "%{http_code}").decode()
        assert said.endswith("400") and json.loads(said[:-3])["error"]["param"] == "messages"

    def test_a_giant_body_is_refused_before_it_is_sent(self, server, tmp_path):
        (tmp_path / "giant").write_bytes(bytes(80 << 20))
        begun = time.monotonic()
        command = ["curl", "-sS", f"{server.url}/v1/describe", "--data-binary", f"@{tmp_path / 'giant'}"]
        said = subprocess.run(command, capture_output=True, check=False, timeout=60).stdout
        assert b"at most 64 MiB" in said and time.monotonic() - begun < 10


NODE_SCRIPT = """
const OpenAI = require('openai').default ?? require('openai');
const fs = require('fs');
const [base, photo, question, second] = process.argv.slice(1);
const client = new OpenAI({ baseURL: base + '/v1', apiKey: 'none', maxRetries: 0 });
const url = 'data:image/png;base64,' + fs.readFileSync(photo).toString('base64');
const image = { type: 'image_url', image_url: { url } };
const asked = [{ role: 'user', content: [{ type: 'text', text: question }, image] }];
const model = 'PALO-Nano';
(async () => {
  const said = {};
  const first = (await client.chat.completions.create({ model, messages: asked })).choices[0].message;
  const more = [...asked, first, { role: 'user', content: second }];
  const answered = await client.chat.completions.create({ model, messages: more });
  said.answers = [first.content, answered.choices[0].message.content];
  said.streamed = '';
  for await (const chunk of await client.chat.completions.create({ model, messages: asked, stream: true }))
    said.streamed += chunk.choices[0]?.delta?.content ?? '';
  const long = await client.chat.completions.create(
    { model, messages: asked, stream: true, temperature: 100, max_tokens: 900 });
  for await (const chunk of long) { long.controller.abort(); break; }
  try { await client.chat.completions.create({ model, messages: asked, presence_penalty: 1 }); }
  catch (error) { said.error = [error.status, error.param]; }
  console.log(JSON.stringify(said));
})();
"""


def node_environment():
    """An environment in which Node finds the openai package; None where there is none."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return None
    found = subprocess.run(["npm", "root", "-g"], capture_output=True, text=True, check=False).stdout.strip()
    folders = [folder for folder in (os.environ.get("NODE_PATH", ""), found) if folder]
    if not any((Path(folder) / "openai").is_dir() for folder in folders):
        return None
    return {**os.environ, "NODE_PATH": os.pathsep.join(folders)}


def test_openai_for_node(server, photo, expected):
    env = node_environment()
    if env is None:
        # npm is no part of a Python environment, and the package is not ours to ship.
        pytest.skip("node or its openai package is not installed (`npm install -g openai`)")
    before = cancelled(server)
    command = ["node", "-e", NODE_SCRIPT, server.url, str(photo), QUESTION, SECOND]
    result = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 0, result.stderr
    said = json.loads(result.stdout)
    assert tuple(said["answers"]) == expected and said["streamed"] == expected[0]
    assert said["error"] == [400, "presence_penalty"]
    assert ended_early(server, before)
