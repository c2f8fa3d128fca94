"""The table of states: whole, and as the standard draws it."""

import pytest

from firmwarden.protocol.dfu.requests import State, Status
from firmwarden.protocol.dfu.states import DFU, DFUSE, Condition, Input, Move, Response, Table, move, outcomes

_REQUESTS = [each for each in Input if each not in {Input.TIMER, Input.BUS_RESET}]

# DFU 1.1, A.2, in the standard's numbers: "stall" with the state that follows; X stalls and ends in 10; several
# states where a condition decides; "-" a request that is not answered.
_STANDARD = """
      DETACH   DNLOAD   DNLOAD_EMPTY UPLOAD   GETSTATUS CLRSTATUS GETSTATE ABORT    TIMER BUS_RESET
 0    1        stall0   stall0       stall0   0         stall0    0        stall0   0     0
 1    stall0   stall0   stall0       stall0   1         stall0    1        stall0   0     2
 2    X        3/X      X            9/X      2         X         2        2        2     0/10
 3    X        X        X            X        4/5       X         3        2        3     0/10
 4    X        X        X            X        X         X         X        X        3     0/10
 5    X        3        6/X          X        5         X         5        2        5     0/10
 6    X        X        X            X        7/2/7     X         6        2        6     0/10
 7    X        X        X            X        X         X         X        X        6/8   0/10
 8    -        -        -            -        -         -         -        -        8     0
 9    X        X        X            9/2      9         X         9        2        9     0/10
 10   X        X        X            X        10        2         10       X        10    0/10
"""


def _cell(move: Move) -> str:
    match move.response:
        case Response.DONE:
            return str(move.to.value)
        case Response.SILENCE:
            return "-"
        case Response.STALL if move.to is State.ERROR:
            return "X"
        case Response.STALL:
            return f"stall{move.to.value}"


def test_the_table_is_the_standard_s() -> None:
    head, *rows = _STANDARD.strip("\n").splitlines()
    inputs = [Input[name] for name in head.split()]
    assert inputs == list(Input)
    for row in rows:
        number, *cells = row.split()
        state = State(int(number))
        ours = ["/".join(map(_cell, DFU[state, each])) for each in inputs]
        assert (state, ours) == (state, cells)


@pytest.mark.parametrize("table", [DFU, DFUSE], ids=["dfu", "dfuse"])
def test_both_tables_are_total(table: Table) -> None:
    assert set(table) == {(state, each) for state in State for each in Input}
    for row in table.values():
        *conditional, last = row
        assert last.when is Condition.ALWAYS
        assert all(each.when is not Condition.ALWAYS for each in conditional)
        assert len({each.when for each in row}) == len(row)


@pytest.mark.parametrize("table", [DFU, DFUSE], ids=["dfu", "dfuse"])
def test_whoever_falls_into_an_error_says_which(table: Table) -> None:
    for (state, _), row in table.items():
        for each in row:
            if each.to is State.ERROR and state is not State.ERROR:
                assert each.status not in {None, Status.OK}
            if each.status is not None and each.to is not State.ERROR:
                assert each.status is Status.OK


@pytest.mark.parametrize("table", [DFU, DFUSE], ids=["dfu", "dfuse"])
def test_only_clearing_or_restarting_ends_an_error(table: Table) -> None:
    for each in Input:
        if each not in {Input.CLRSTATUS, Input.BUS_RESET}:
            assert outcomes(table, State.ERROR, each) == {State.ERROR}


def test_what_st_does_differently() -> None:
    different = {pair for pair in DFU if DFU[pair] != DFUSE[pair]}

    assert (State.DFU_IDLE, Input.DNLOAD_EMPTY) in different
    assert {each for _, each in different} == {Input.DNLOAD_EMPTY, Input.BUS_RESET}
    for state in State:
        expected = (
            {State.APP_IDLE} if state in {State.APP_IDLE, State.MANIFEST_WAIT_RESET} else {State.DFU_IDLE}
        )
        assert outcomes(DFUSE, state, Input.BUS_RESET) == expected


def test_inv1_no_image_starts_but_by_the_empty_download() -> None:
    """MANIFEST is the door to the new image, and MANIFEST_SYNC the only door to that."""
    for table in (DFU, DFUSE):
        into_manifest = {state for state, each in table if State.MANIFEST in outcomes(table, state, each)}
        assert into_manifest == {State.MANIFEST_SYNC}
        into_sync = {each for state, each in table if state is not State.MANIFEST_SYNC}
        into_sync = {
            each
            for state, each in table
            if state not in {State.MANIFEST_SYNC, State.MANIFEST}
            and State.MANIFEST_SYNC in outcomes(table, state, each)
        }
        assert into_sync == {Input.DNLOAD_EMPTY}


@pytest.mark.parametrize(
    ("holds", "to"),
    [
        ({Condition.MANIFEST_PENDING, Condition.TOLERANT}, State.MANIFEST),
        ({Condition.TOLERANT}, State.DFU_IDLE),
        (set(), State.MANIFEST),
    ],
)
def test_the_first_condition_that_holds_counts(holds: set[Condition], to: State) -> None:
    assert move(DFU, State.MANIFEST_SYNC, Input.GETSTATUS, holds) == Move(
        to, when=move(DFU, State.MANIFEST_SYNC, Input.GETSTATUS, holds).when
    )


def test_a_download_that_is_not_over_cannot_be_ended() -> None:
    early = move(DFU, State.DNLOAD_IDLE, Input.DNLOAD_EMPTY, set())

    assert early == Move(State.ERROR, Response.STALL, Status.ERR_NOTDONE)
