from hypothesis import given
from hypothesis import strategies as st

from data_construction.executors.part_queue import PartQueue


def test_parts_are_given_in_order_to_whoever_asks() -> None:
    queue = PartQueue([4, 7, 9], attempts=3)
    assert [queue.take(name) for name in ("a", "b", "a", "b")] == [4, 7, 9, None]
    queue.done("b", 7)
    assert not queue.closed
    queue.done("a", 4)
    queue.done("a", 9)
    assert queue.closed


def test_parts_of_a_lost_worker_come_last_and_alone() -> None:
    queue = PartQueue(range(5), attempts=3)
    assert [queue.take("a"), queue.take("a"), queue.take("b")] == [0, 1, 2]
    assert queue.lost("a") == ([0, 1], None)
    assert [queue.take("c"), queue.take("c")] == [3, 4]
    assert queue.take("c") is None, "it has others in hand"
    queue.done("c", 3)
    queue.done("c", 4)
    assert queue.take("c") == 0
    assert queue.take("c") is None, "a suspect goes alone"
    queue.done("c", 0)
    assert queue.take("c") == 1


def test_a_part_that_keeps_losing_workers_is_named_and_its_first_neighbours_are_not() -> None:
    queue = PartQueue(range(3), attempts=3)
    assert [queue.take("w0") for _ in range(3)] == [0, 1, 2]
    found = queue.lost("w0")
    assert found == ([0, 1, 2], None)
    number = 0
    while found.deadly is None and not queue.closed:
        number += 1
        while (unit := queue.take(f"w{number}")) is not None:
            if unit == 1:
                found = queue.lost(f"w{number}")
                break
            queue.done(f"w{number}", unit)
    assert found.deadly == 1 and number == 2


def test_a_part_that_a_worker_thought_lost_has_made_is_not_made_again() -> None:
    queue = PartQueue([0, 1], attempts=3)
    assert queue.take("a") == 0
    queue.lost("a")
    queue.done("a", 0)
    assert queue.take("b") == 1
    queue.done("b", 1)
    assert queue.take("b") is None and queue.closed


@given(st.lists(st.tuples(st.sampled_from("tdl"), st.sampled_from("abc")), max_size=200))
def test_whatever_happens_every_part_is_made(events: list[tuple[str, str]]) -> None:
    queue = PartQueue(range(6), attempts=1000)
    made: set[int] = set()
    for kind, worker in events:
        mine = queue.in_hand(worker)
        if kind == "t":
            unit = queue.take(worker)
            assert unit not in made
        elif kind == "l":
            queue.lost(worker)
        elif mine:
            queue.done(worker, min(mine))
            made.add(min(mine))
    for worker in "abc":
        queue.lost(worker)
    while (unit := queue.take("last")) is not None:
        queue.done("last", unit)
        made.add(unit)
    assert queue.closed and made == set(range(6))
