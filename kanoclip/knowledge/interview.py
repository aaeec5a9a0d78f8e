"""Ask models many questions: each once, several at a time, with the estimated cost logged first, then the progress."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime
from pathlib import Path

from kanoclip.config import EndpointConfig
from kanoclip.knowledge.answers import Answers
from kanoclip.knowledge.chat import Chat, Reply
from kanoclip.knowledge.jsonl import Description
from kanoclip.knowledge.questions import Question
from kanoclip.knowledge.wording import CONTEXT, fit, is_refusal, tidy
from kanoclip.types import InputError, logger

REPORTS = 10  # number of progress lines


def interview(questions: Sequence[Question], config: EndpointConfig, path: Path) -> list[Description]:
    """Return the usable answers to questions in order, asking only those that no earlier run has asked.

    Args:
        questions: questions of one source.
        config: the endpoint and model.
        path: the file of answers.

    Raises:
        InputError: the endpoint stops answering; answers so far are kept.
    """
    answers = Answers(path)
    # by key: an image that is there twice is asked about once
    open_questions = list({question.key: question for question in questions if question not in answers}.values())
    if open_questions:
        chat = Chat(config)
        _announce(open_questions, len(questions), config)
        _ask_all(open_questions, chat, answers)
    given = [answers[question] for question in questions]
    usable = [answer for answer in given if answer.text]
    if len(usable) < len(given):
        count = len(given) - len(usable)
        logger.warning("%d of %d answers have no usable text; see their notes in %s", count, len(given), path)
    return usable


def ask(chat: Chat, question: Question) -> Description:
    """Return the answer to one question, with a second, stricter request if the first answer is unusable.

    Returns:
        The answer; its text is empty if the second is unusable too.

    Raises:
        InputError: the endpoint does not answer, or not with chat completions.
    """
    notes = []
    for stricter in (False, True):
        reply = chat.ask(question.messages(stricter))
        text, problem = judge(reply)
        notes += [problem] if problem else []
        if text:
            break
        notes += [] if stricter else ["asked again"]
    if not reply.readable:
        raise InputError(
            f"{question.config.base_url}: expected a chat completion, found something else; check base_url"
        )
    return Description(
        question.class_name,
        question.source,
        text,
        image=question.image,
        image_digest=question.image_digest,
        model=question.config.model,
        prompt_hash=question.prompt_hash,
        number=question.number,
        date=datetime.now(UTC).date().isoformat(),
        note="; ".join(notes),
    )


def judge(reply: Reply) -> tuple[str, str]:
    """Return the usable part of a reply, and a note on its problem; each may be empty."""
    if not reply.readable:
        return "", "unreadable"
    text = tidy(reply.text)
    if reply.refused or is_refusal(text):
        return "", "refused"
    if not text:
        return "", "empty"
    kept = fit(text, reply.cut_off)
    if kept == text:
        return text, ""
    problem = "cut off by the server" if reply.cut_off else f"over {CONTEXT} tokens"
    return kept, f"{problem}, whole sentences kept" if kept else problem


def _ask_all(questions: Sequence[Question], chat: Chat, answers: Answers) -> None:
    """Ask, store and count; a failure cancels pending questions, and answers in flight are still stored."""
    stopped = threading.Event()

    def work(question: Question) -> None:
        if stopped.is_set():
            return
        try:
            answers.add(ask(chat, question))
        except Exception:
            stopped.set()  # set here, so that no thread asks more before the main thread notices
            raise

    total = len(questions)
    with ThreadPoolExecutor(chat.config.concurrency) as pool:
        futures = [pool.submit(work, question) for question in questions]
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                future.result()
                if done * REPORTS // total > (done - 1) * REPORTS // total:
                    cost = _cost(chat.config, chat.tokens_in, chat.tokens_out)
                    logger.info("%d of %d answered, %s", done, total, cost)
        finally:
            stopped.set()


def _announce(questions: Sequence[Question], wanted: int, config: EndpointConfig) -> None:
    """Log the estimated cost before the first request."""
    logger.info(
        "%s: %d questions to %s at %s, %d of %d answered before; about %s",
        questions[0].source,
        len(questions),
        config.model,
        config.base_url,
        wanted - len(questions),
        wanted,
        _cost(config, sum(question.tokens() for question in questions), CONTEXT * len(questions)),
    )


def _cost(config: EndpointConfig, tokens_in: int, tokens_out: int) -> str:
    cost = f"{tokens_in} tokens in, {tokens_out} out"
    if config.price is None:
        return cost
    return f"{cost}, price {(tokens_in * config.price[0] + tokens_out * config.price[1]) / 1e6:.2f}"
