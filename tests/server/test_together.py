"""Several conversations at once on one model: what each keeps, whatever the others do."""

from __future__ import annotations

import threading

import pytest
from running_server import RunningServer, drawing, raw_post, user

from palo_cpp.errors import BusyError
from palo_cpp.llm.step import Stepper
from palo_cpp.server.refusals import refusal_for

URL = "/v1/chat/completions"
LONG = {"messages": [{"role": "user", "content": "x"}], "temperature": 100, "max_tokens": 300}


@pytest.fixture
def asked_enough(monkeypatch):
    """Until it is set, each step takes 20 ms longer: 300 tokens do not end before what happens beside them."""
    event, step = threading.Event(), Stepper.step

    def slowed(self, jobs, *, is_alone):
        event.wait(0.02)
        step(self, jobs, is_alone=is_alone)

    monkeypatch.setattr(Stepper, "step", slowed)
    return event


def test_a_second_question_beside_three_others_encodes_nothing_and_repeats_nothing(nano, asked_enough):
    with RunningServer(nano, n_parallel=4) as server:
        asked = {"messages": [user("What is this?", drawing("green", "circle", (210, 140)))], "max_tokens": 40}
        first = server.post(URL, asked).json["choices"][0]
        asked["messages"] += [first["message"], user("What colour is it?")]
        asked["messages"][1].pop("refusal")
        begun = threading.Barrier(4)

        def talk(seed):
            with server.connected() as opened:
                opened.sendall(raw_post(URL, {**LONG, "seed": seed, "stream": True}))
                said = b""
                while said.count(b'"delta"') < 3:  # the role and two pieces: its prompt is prefilled
                    said += opened.recv(65536)
                begun.wait(30)
                server.idle()

        others = [threading.Thread(target=talk, args=(seed,)) for seed in range(3)]
        for thread in others:
            thread.start()
        begun.wait(30)
        before = {name: server.metric(name) for name in ("palo_images_encoded_total", "palo_rows_repeated_total")}
        assert server.get("/health").json["running"] == 3
        second = server.post(URL, asked).json["choices"][0]["palo"]
        asked_enough.set()
        for thread in others:
            thread.join()
        told = first["palo"]
        assert {name: server.metric(name) for name in before} == before
        assert second["n_cached_tokens"] >= told["n_prompt_tokens"] + told["n_generated"] - 2


def test_a_model_that_is_busy_says_when_to_come_back():
    refusal = refusal_for(BusyError("palo: expected a free place, got none", 6.2))
    assert (refusal.status, refusal.headers, refusal.code) == (503, {"Retry-After": "7"}, "busy")
