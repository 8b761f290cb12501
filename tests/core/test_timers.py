"""The table of deadlines."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from phalanx.transport.core.timers import Timer, TimerTable

arms = st.lists(st.tuples(st.sampled_from(Timer), st.sampled_from(["", 1, 2]), st.integers(0, 100)))


@given(arms, st.integers(0, 100))
def test_what_is_due_fires_once_in_order_and_the_rest_stays(
    armed: list[tuple[Timer, int | str, int]], now_ns: int
) -> None:
    """A timer that fires twice, or not, is a protocol step too many or too few."""
    table = TimerTable()
    model: dict[tuple[Timer, int | str], int] = {}
    for timer, subject, at_ns in armed:
        table.arm(timer, subject, at_ns)
        model[timer, subject] = at_ns
    assert table.next_deadline() == min(model.values(), default=None)
    due = table.expire(now_ns)
    assert set(due) == {key for key, at in model.items() if at <= now_ns}
    assert len(due) == len(set(due))
    assert [model[key] for key in due] == sorted(model[key] for key in due)
    left = [at for at in model.values() if at > now_ns]
    assert table.next_deadline() == min(left, default=None)
    assert table.expire(now_ns) == []


@given(arms)
def test_arm_earlier_never_delays(armed: list[tuple[Timer, int | str, int]]) -> None:
    """Who asks to be woken early must not be put off by who asks later."""
    table = TimerTable()
    for _, _, at_ns in armed:
        table.arm_earlier(Timer.ACK, "", at_ns)
    assert table.next_deadline() == min((at for _, _, at in armed), default=None)


def test_a_stopped_timer_is_gone_and_stopping_twice_is_harmless() -> None:
    """An aborted phase must not wake anybody."""
    table = TimerTable()
    table.arm(Timer.PHASE, "", 5)
    assert table.armed(Timer.PHASE)
    table.stop(Timer.PHASE)
    table.stop(Timer.PHASE)
    assert not table.armed(Timer.PHASE)
    assert table.next_deadline() is None


steps = st.lists(
    st.tuples(
        st.sampled_from(["arm", "arm_earlier", "stop", "next", "expire"]),
        st.sampled_from([Timer.ACK, Timer.PROBE]),
        st.sampled_from(["", 1]),
        st.integers(0, 20),
    )
)


@given(steps)
def test_the_table_knows_the_earliest_after_any_calls(
    calls: list[tuple[str, Timer, int | str, int]],
) -> None:
    """It remembers the earliest deadline; one that it forgot to look for anew is never kept."""
    table = TimerTable()
    model: dict[tuple[Timer, int | str], int] = {}
    for call, timer, subject, at_ns in calls:
        key = (timer, subject)
        match call:
            case "arm":
                table.arm(timer, subject, at_ns)
                model[key] = at_ns
            case "arm_earlier":
                table.arm_earlier(timer, subject, at_ns)
                model[key] = min(at_ns, model.get(key, at_ns))
            case "stop":
                table.stop(timer, subject)
                model.pop(key, None)
            case "next":
                assert table.next_deadline() == min(model.values(), default=None)
            case _:
                due = {key for key, at in model.items() if at <= at_ns}
                assert set(table.expire(at_ns)) == due
                model = {key: at for key, at in model.items() if key not in due}
    assert table.next_deadline() == min(model.values(), default=None)
