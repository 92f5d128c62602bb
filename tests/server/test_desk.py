"""The desk and its tickets, without a model: order, places, cancelling, failing."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from palo_cpp.server.jobs import Desk, Done
from palo_cpp.server.refusals import Refusal


def waits_for(event, key, order):
    def work(job):
        order.append(key)
        event.wait(10)
        job.emit(Done(key, key * 10))

    return work


def test_in_the_order_of_arrival_and_no_more_than_may_run():
    async def main():
        desk, event, order = Desk(2, 3), threading.Event(), []
        tickets = [desk.submit(waits_for(event, i, order)) for i in range(5)]
        await asyncio.sleep(0.1)
        assert (desk.n_running, desk.n_waiting, sorted(order)) == (2, 3, [0, 1])
        with pytest.raises(Refusal) as refused:
            desk.submit(waits_for(event, 9, order))
        assert refused.value.status == 503 and refused.value.headers["Retry-After"] == "2"
        event.set()
        assert [await ticket.results() for ticket in tickets] == [{i: i * 10} for i in range(5)]
        assert order[2:] == [2, 3, 4]

    asyncio.run(main())


def test_a_request_of_several_has_place_for_all_or_none():
    async def main():
        desk, event, order = Desk(1, 2), threading.Event(), []
        with pytest.raises(Refusal):
            desk.submit(*(waits_for(event, i, order) for i in range(4)))
        assert (desk.n_running, desk.n_waiting) == (0, 0)
        ticket = desk.submit(*(waits_for(event, i, order) for i in range(3)))
        event.set()
        assert await ticket.results() == {0: 0, 1: 10, 2: 20}

    asyncio.run(main())


def test_what_waits_and_is_cancelled_never_begins():
    async def main():
        desk, event, order = Desk(1, 5), threading.Event(), []
        first, second, third = (desk.submit(waits_for(event, i, order)) for i in range(3))
        second.cancel()
        assert desk.n_waiting == 1
        event.set()
        await first.results()
        await third.results()
        assert order == [0, 2]

    asyncio.run(main())


def test_a_failure_reaches_whoever_waits_and_the_desk_goes_on():
    def fails(_job):
        raise ZeroDivisionError("x")

    async def main():
        desk, event = Desk(1, 5), threading.Event()
        event.set()
        failing, good = desk.submit(fails), desk.submit(waits_for(event, 1, []))
        with pytest.raises(ZeroDivisionError):
            await failing.results()
        assert await good.results() == {1: 10}

    asyncio.run(main())


def test_closing_lets_work_end_then_ends_it():
    async def main():
        desk, begun, steps = Desk(1, 5), threading.Event(), []

        def endless(job):
            begun.set()
            while not job.is_cancelled():
                steps.append(1)
                time.sleep(0.005)

        desk.submit(endless)
        waiting = desk.submit(endless)
        begun.wait(5)
        closing = threading.Thread(target=desk.close, args=(0.2,))
        closing.start()
        await asyncio.sleep(0.05)
        with pytest.raises(Refusal, match="being stopped"):
            desk.submit(endless)
        assert closing.is_alive()
        await asyncio.to_thread(closing.join, 5)
        assert not closing.is_alive() and desk.n_running == 0
        with pytest.raises(Refusal, match="being stopped"):
            await waiting.results()

    asyncio.run(main())
