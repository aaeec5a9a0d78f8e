"""A lock is held by one process at a time and ends with its process."""

import multiprocessing
import os
import signal
import time

from kanoclip.locks import claim, locked

PROCESSES = multiprocessing.get_context("fork")


def test_a_folder_is_claimed_by_one_holder_until_it_closes_the_lock(tmp_path):
    first = claim(tmp_path / "a" / "b")
    assert first is not None and (tmp_path / "a" / "b").is_dir()
    assert claim(tmp_path / "a" / "b") is None
    first.close()
    again = claim(tmp_path / "a" / "b")
    assert again is not None
    again.close()


def test_the_lock_of_a_killed_process_is_released(tmp_path):
    def hold(ready):
        with locked(tmp_path / "lock"):
            ready.set()
            time.sleep(60)

    ready = PROCESSES.Event()
    child = PROCESSES.Process(target=hold, args=(ready,))
    child.start()
    assert ready.wait(30)
    os.kill(child.pid, signal.SIGKILL)
    child.join(30)
    with locked(tmp_path / "lock"):
        assert child.exitcode == -signal.SIGKILL


def test_no_update_is_lost_while_two_processes_hold_a_lock_in_turn(tmp_path):
    """Without the lock, reading and writing a counter loses updates."""
    counter = tmp_path / "counter"
    counter.write_text("0")

    def add():
        for _ in range(200):
            with locked(tmp_path / "lock"):
                counter.write_text(str(int(counter.read_text()) + 1))

    children = [PROCESSES.Process(target=add) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    assert counter.read_text() == "400"


def test_a_folder_that_its_owner_deletes_can_be_claimed_again(tmp_path):
    slot = tmp_path / "slot"

    def claim_and_delete(start):
        start.wait()
        for _ in range(200):
            lock = claim(slot)
            if lock is not None:
                slot.rename(tmp_path / f"{os.getpid()}-{time.monotonic_ns()}")
                lock.close()

    start = PROCESSES.Barrier(2)
    children = [PROCESSES.Process(target=claim_and_delete, args=(start,)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0  # nobody deleted a folder that another process had claimed
