"""The work of a question: what the threads of the desk do, and what it counts for."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from palo_cpp.server.conversations import Conversations
from palo_cpp.server.jobs import Begun, Desk, Done, Job, Text, Ticket
from palo_cpp.server.metrics import Metrics
from palo_cpp.server.question import Question

if TYPE_CHECKING:
    from palo_cpp.chat.answer import Answer, AnswerStream


logger = logging.getLogger("palo_cpp.server")


class Answering:
    """Has questions answered.

    Args:
        desk: where they wait.
        conversations: what they become.
        metrics: what is counted.
        logs_content: whether questions and answers are logged.
    """

    def __init__(self, desk: Desk, conversations: Conversations, metrics: Metrics, *, logs_content: bool) -> None:
        self.desk, self.conversations, self.metrics = desk, conversations, metrics
        self._logs_content = logs_content

    def submit(self, question: Question, images: Sequence[Sequence[bytes]]) -> Ticket:
        """Have a question answered `question.n` times; the events' keys are the answers' numbers.

        Raises:
            Refusal: there is no place.
        """
        came_at = time.perf_counter()
        return self.desk.submit(*(partial(self._answer, question, images, i, came_at) for i in range(question.n)))

    def _answer(
        self, question: Question, images: Sequence[Sequence[bytes]], key: int, came_at: float, job: Job
    ) -> None:
        text, options = question.messages[-1].text, question.options_of(key)
        with self.conversations.begin(question, images) as chat:
            if question.is_streamed:
                answer = self._stream(chat.stream(text, should_stop=job.is_cancelled, **options), key, came_at, job)
            else:
                # The whole of an answer that is read at its end can be checked, and asked for once more.
                answer = chat.ask(text, should_stop=job.is_cancelled, **options)
                self.metrics.first_token(time.perf_counter() - came_at - answer.timings.decode_s)
            self.conversations.remember(chat, text)
        self.metrics.answered(answer)
        if self._logs_content:  # in ASCII: what strangers write must not move the terminal's cursor
            logger.info("question %a, answer %a", text, answer.text)
        job.emit(Done(key, answer))

    def _stream(self, stream: AnswerStream, key: int, came_at: float, job: Job) -> Answer:
        job.emit(Begun())
        has_begun = False
        with stream:
            for piece in stream:
                if not has_begun:
                    self.metrics.first_token(time.perf_counter() - came_at)
                    has_begun = True
                job.emit(Text(key, piece.text))
                if job.is_cancelled():
                    break
        assert stream.answer is not None  # it has ended
        return stream.answer
