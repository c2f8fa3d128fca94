"""Hosts against devices that are right and a bus that is not: what holds whatever happens, and wherever it ends."""

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from firmwarden.errors import AttemptFailed
from firmwarden.model import CauseCode
from firmwarden.protocol.dfu.conversation import Conversation
from firmwarden.protocol.dfu.descriptors import Attribute, FunctionalDescriptor
from firmwarden.protocol.dfu.dfuse_host import DfuseHost
from firmwarden.protocol.dfu.host import DfuHost, Manifested
from firmwarden.protocol.dfu.memory_map import MemoryMap
from firmwarden.protocol.dfu.segments import Segment
from firmwarden.protocol.dfu.steps import Unit
from support.dfu_model import Fault, ModelDevice
from support.dfu_script import run

BASE = 0x0800_0000
LAYOUT = MemoryMap.parse(f"@Internal Flash/0x{BASE:08X}/04*032 g")
IMAGE = (Segment(BASE, bytes(range(1, 41))), Segment(BASE + 0x50, b"tail"))
PLAIN_IMAGE = bytes(range(50))

_BOTH = Attribute.CAN_DOWNLOAD | Attribute.CAN_UPLOAD
DFUSE = FunctionalDescriptor(attributes=_BOTH, detach_timeout_ms=255, transfer_size=16, version=0x011A)
PLAIN = FunctionalDescriptor(
    attributes=_BOTH | Attribute.MANIFESTATION_TOLERANT,
    detach_timeout_ms=255,
    transfer_size=16,
    version=0x0110,
)

_RETRIED = {CauseCode.NO_ANSWER, CauseCode.LINK_LOST, CauseCode.OUT_OF_STEP, CauseCode.CLIENT_REBOOTED}
_FAULTS = st.lists(st.just(Fault.NONE) | st.sampled_from(Fault), max_size=120)


def _dfuse() -> Conversation[bool]:
    """Update all, in one go."""
    visit = DfuseHost(Unit(interface=0, functional=DFUSE), LAYOUT)
    yield from visit.make_idle()
    yield from visit.erase(LAYOUT.touched((segment.address, segment.end) for segment in IMAGE))
    yield from visit.write(IMAGE)
    yield from visit.verify(IMAGE)
    return (yield from visit.leave(IMAGE, BASE))


def _plain() -> Conversation[object]:
    visit = DfuHost(Unit(interface=0, functional=PLAIN))
    yield from visit.download(PLAIN_IMAGE)
    return (yield from visit.manifest())


def _holds_image(flash: bytes) -> bool:
    return all(flash[segment.address - BASE : segment.end - BASE] == segment.data for segment in IMAGE)


def _cuts(conversation: Conversation[object], device: ModelDevice, events: int) -> bool:
    """Drive for so many events, then close; True when the end came first."""
    try:
        event = next(conversation)
        for _ in range(events):
            event = conversation.send(device.answer(event))
    except StopIteration:
        return True
    conversation.close()
    return False


def test_inv1_wherever_a_dfuse_update_is_cut_nothing_partial_starts_and_the_next_one_finishes() -> None:
    for events in range(1000):
        device = ModelDevice(DFUSE, LAYOUT)
        device.memory[:] = b"\x55" * len(device.memory)
        done = _cuts(_dfuse(), device, events)
        assert all(map(_holds_image, device.started))
        if not device.started:
            # Cut after the last download, the device leaves when it is asked how it is; else the update is done anew.
            with contextlib.suppress(AttemptFailed):
                assert run(_dfuse(), device.answer)
            assert len(device.started) == 1
            assert _holds_image(device.started[0])
        if done:
            assert events > 80
            return
    raise AssertionError


def test_inv1_wherever_a_plain_update_is_cut_nothing_partial_starts_and_the_next_one_finishes() -> None:
    for events in range(1000):
        device = ModelDevice(PLAIN)
        done = _cuts(_plain(), device, events)
        assert device.started in ([], [PLAIN_IMAGE])
        if not device.started:
            run(_plain(), device.answer)
            assert set(device.started) == {PLAIN_IMAGE}
        if done:
            assert events > 20
            return
    raise AssertionError


def _outcome(conversation: Conversation[object], device: ModelDevice) -> object:
    try:
        return run(conversation, device.answer)
    except AttemptFailed as failed:
        return failed.cause.code


@given(_FAULTS)
def test_inv1_inv2_whatever_happens_a_dfuse_device_starts_nothing_partial(faults: list[Fault]) -> None:
    device = ModelDevice(DFUSE, LAYOUT, faults)

    outcome = _outcome(_dfuse(), device)

    assert outcome in {True, False, *_RETRIED, CauseCode.READ_BACK_DIFFERS}
    if outcome is True:
        assert device.started
    if set(faults) <= {Fault.NONE}:
        assert outcome is True
    if Fault.DECAY not in faults:  # a bit that changes after it was read back is beyond any host
        assert all(map(_holds_image, device.started))
        assert outcome is not CauseCode.READ_BACK_DIFFERS


@given(_FAULTS.filter(lambda faults: Fault.DECAY not in faults))
def test_inv1_inv2_whatever_happens_a_plain_device_starts_nothing_partial(faults: list[Fault]) -> None:
    device = ModelDevice(PLAIN, None, faults)

    outcome = _outcome(_plain(), device)

    assert outcome in {*Manifested, *_RETRIED}
    assert device.started in ([], [PLAIN_IMAGE])
    if outcome is Manifested.IDLE:
        assert device.started


@given(_FAULTS.filter(lambda faults: Fault.DECAY not in faults))
def test_whatever_happened_the_next_visit_finishes(faults: list[Fault]) -> None:
    device = ModelDevice(DFUSE, LAYOUT, faults)
    try:
        run(_dfuse(), device.answer)
    except AttemptFailed:
        device.behave()
        device.restart()
        assert run(_dfuse(), device.answer)
    assert device.started
    assert _holds_image(device.started[-1])
