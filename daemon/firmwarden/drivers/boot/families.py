"""The families, one row each: what is known of the silicon behind a DfuSe loader.

A row is no list of devices that work.  It says what a power cut leaves, and it says so only as far as somebody read or
saw it; ``proven`` is left out of a mechanism whenever there is a known doubt.  To correct a row, correct it here: the
procedures, the checks and the page of power cuts in the documentation follow.

Sources: ST AN2606 (activation patterns in table 2, alignment in table 7, the sections and dual-bank figures of the
families), ST's article "Empty check mechanism on STM32", the reference manuals and errata named in the rows, ST's CMSIS
headers for the bits of FLASH_OPTR and FLASH_OPTCR.
"""

from __future__ import annotations

import re
from typing import Final

from firmwarden.drivers.boot.facts import (
    BankCheck,
    Confidence,
    EmptyCheck,
    Family,
    Flash,
    LengthBug,
    OptionBit,
    Ram,
    Source,
)

_KILO: Final = 1 << 10


def _parts(*patterns: str) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(f"STM32{pattern}", re.ASCII) for pattern in patterns)


def _kilobytes(*sizes: int) -> frozenset[int]:
    return frozenset(sizes)


def _pages(*kilobytes: float) -> frozenset[int]:
    return frozenset(round(size * _KILO) for size in kilobytes)


def _sram(kilobytes: int, start: int = 0x2000_0000) -> Ram:
    return Ram(start, start + kilobytes * _KILO)


def _ccm(kilobytes: int) -> Ram:
    return _sram(kilobytes, 0x1000_0000)


def _pattern(number: int, *, read: bool = True) -> Source:
    """AN2606's activation pattern, read in the section of the family or only taken from its general table."""
    return Source(f"ST AN2606, pattern {number}", Confidence.VENDOR if read else Confidence.INFERRED)


def _option(name: str, bit: int, wanted: int = 1, address: int = 0x1FFF_7800) -> OptionBit:
    return OptionBit(name=name, address=address, bit=bit, wanted=wanted)


_EMPTY_CHECK: Final = EmptyCheck(source=Source("ST, Empty check mechanism on STM32", Confidence.VENDOR))

_L4_OPTIONS: Final = 0x1FFF_7800
"""Of L4 and G4: FLASH_OPTR, then its complement.  Its first byte is RDP."""
_L4_PLUS_OPTIONS: Final = 0x1FF0_0000
"""The same of L4+ (RM0432, 3.4), whose loaders tell it in their maps."""
_F4_OPTIONS: Final = 0x1FFF_C000
"""Of F2 and F4: the low half of FLASH_OPTCR.  Its second byte is RDP."""
_LOADER_ID: Final = 0x1FFF_6FFE

_F4_SECTORS: Final = _pages(16, 64, 128)

_LENGTH_BUG: Final = LengthBug(
    above=256,
    multiple=8,
    source=Source("ST AN2606, STM32L47x/48x, loaders V9.x and V10.x", Confidence.VENDOR),
)

FAMILIES: Final[tuple[Family, ...]] = (
    Family(
        name="stm32l47x",
        title="STM32L471/475/476/485/486",
        parts=_parts("L4[78][156]"),
        flash=Flash(kilobytes=_kilobytes(256, 512, 1024), pages=_pages(2), granule=8),
        stacks=(_sram(96), _ccm(32)),
        bank_check=BankCheck(
            setting="BFB2=1",
            bits=(_option("BFB2", 20), _option("DUALBANK", 21)),
            # V10.1 and V10.2 take SRAM1 only; its very end was seen to be taken.
            stacks=(_sram(96),),
            source=Source(
                "ST AN2606, pattern 7 and the dual-bank figures of V9.x and V10.x", Confidence.VENDOR
            ),
        ),
        protection=_L4_OPTIONS,
        loader_id=_LOADER_ID,
        length_bug=_LENGTH_BUG,
        remark="Its DFU needs an LSE or HSE crystal. The application must set VTOR: the ROM stays mapped at 0.",
        source=Source(
            "ST AN2606; no empty check in ST's article and no PEMPTY in its headers", Confidence.VENDOR
        ),
    ),
    Family(
        name="stm32l4p5",
        title="STM32L4P5/Q5",
        parts=_parts("L4[PQ]5"),
        flash=Flash(kilobytes=_kilobytes(512, 1024), pages=_pages(4, 8), granule=8),
        stacks=(_sram(320), _ccm(64)),
        bank_check=BankCheck(
            setting="BFB2=1",
            bits=(_option("BFB2", 20, address=_L4_PLUS_OPTIONS),),
            pages=_pages(4),
            # Users saw stacks in the third SRAM refused.
            stacks=(_sram(128),),
            source=Source("ST AN2606, pattern 7 and the dual-bank figure", Confidence.VENDOR),
        ),
        protection=_L4_PLUS_OPTIONS,
        loader_id=_LOADER_ID,
        source=_pattern(7),
    ),
    Family(
        name="stm32l496",
        title="STM32L496/4A6",
        parts=_parts("L4[9A]6"),
        flash=Flash(kilobytes=_kilobytes(512, 1024), pages=_pages(2), granule=8),
        stacks=(_sram(320), _ccm(64)),
        empty_check=_EMPTY_CHECK,
        bank_check=BankCheck(
            proven=False,
            doubt="with nSWBOOT0=1 and the pin low the ROM looks at the banks wrongly (ST ES0335, 2.2.8)",
            setting="BFB2=1, nSWBOOT0=0, nBOOT0=1",
            bits=(_option("BFB2", 20), _option("nSWBOOT0", 26, 0), _option("nBOOT0", 27)),
            stacks=(Ram(0x2000_0000, 0x2003_FFFF), Ram(0x1000_0000, 0x1000_FFFF)),
            source=Source("ST AN2606, pattern 6; ES0335, 2.2.8", Confidence.VENDOR),
        ),
        protection=_L4_OPTIONS,
        loader_id=_LOADER_ID,
        source=_pattern(6),
    ),
    Family(
        name="stm32l4r",
        title="STM32L4R5/R7/R9/S5/S7/S9",
        parts=_parts("L4[RS][579]"),
        flash=Flash(kilobytes=_kilobytes(1024, 2048), pages=_pages(4, 8), granule=8),
        stacks=(_sram(640), _ccm(64)),
        empty_check=_EMPTY_CHECK,
        bank_check=BankCheck(
            setting="BFB2=1",
            bits=(_option("BFB2", 20, address=_L4_PLUS_OPTIONS),),
            pages=_pages(4),
            stacks=(_sram(640),),
            loader_at_least=0x95,
            source=Source("ST AN2606, pattern 6; V9.2 is wrong on parts of 1 MB", Confidence.VENDOR),
        ),
        protection=_L4_PLUS_OPTIONS,
        loader_id=_LOADER_ID,
        source=_pattern(6),
    ),
    Family(
        name="stm32l4-small",
        title="STM32L412 to L462",
        parts=_parts("L4[1-6][0-9]"),
        flash=Flash(kilobytes=_kilobytes(64, 128, 256, 512), pages=_pages(2), granule=8),
        stacks=(_sram(160), _ccm(32)),
        empty_check=_EMPTY_CHECK,
        protection=_L4_OPTIONS,
        loader_id=_LOADER_ID,
        source=_pattern(6, read=False),
    ),
    Family(
        name="stm32g47x",
        title="STM32G471/473/474/483/484",
        parts=_parts("G4[78][134]"),
        flash=Flash(kilobytes=_kilobytes(128, 256, 512), pages=_pages(2, 4), granule=8),
        stacks=(_sram(128), _ccm(32)),
        bank_check=BankCheck(
            setting="BFB2=1",
            bits=(_option("BFB2", 20), _option("DBANK", 22)),
            pages=_pages(2),
            stacks=(_sram(128),),
            loader_at_least=0xD4,
            source=Source(
                "ST AN2606, pattern 14; an ST employee on the order of the checks", Confidence.VENDOR
            ),
        ),
        protection=_L4_OPTIONS,
        loader_id=_LOADER_ID,
        remark="Loaders before V13.4 look at the banks wrongly.",
        source=Source("ST AN2606, pattern 14; an ST employee: no empty check", Confidence.FIELD),
    ),
    Family(
        name="stm32g4-small",
        title="STM32G431/441/491/4A1",
        parts=_parts("G4[349A]1"),
        flash=Flash(kilobytes=_kilobytes(32, 64, 128, 256, 512), pages=_pages(2), granule=8),
        stacks=(_sram(112), _ccm(16)),
        protection=_L4_OPTIONS,
        loader_id=_LOADER_ID,
        source=_pattern(15),
    ),
    Family(
        name="stm32g0",
        title="STM32G0B0/B1/C1",
        parts=_parts("G0B[01]", "G0C1"),
        flash=Flash(kilobytes=_kilobytes(128, 256, 512), pages=_pages(2), granule=8),
        stacks=(_sram(144),),
        empty_check=_EMPTY_CHECK,
        remark="G0C1's loader shows no option bytes.",
        source=_pattern(11, read=False),
    ),
    Family(
        name="stm32f04x",
        title="STM32F042/048, F070x6",
        parts=_parts("F04[28]", "F070.6"),
        flash=Flash(kilobytes=_kilobytes(16, 32), pages=_pages(1), granule=4, corrects_errors=False),
        stacks=(_sram(6),),
        empty_check=_EMPTY_CHECK,
        remark="An application can jump into the loader only when its first word is erased.",
        source=Source("ST, Empty check mechanism on STM32; RM0360", Confidence.VENDOR),
    ),
    Family(
        name="stm32f07x",
        title="STM32F072/078, F070xB",
        parts=_parts("F07[28]", "F070.B"),
        flash=Flash(kilobytes=_kilobytes(64, 128), pages=_pages(2), granule=4, corrects_errors=False),
        stacks=(_sram(16),),
        source=_pattern(2, read=False),
    ),
    Family(
        name="stm32f105",
        title="STM32F105/107",
        parts=_parts("F10[57]"),
        flash=Flash(kilobytes=_kilobytes(64, 128, 256), pages=_pages(2), granule=4, corrects_errors=False),
        stacks=(_sram(64),),
        source=_pattern(1, read=False),
    ),
    Family(
        name="stm32f3",
        title="STM32F302/303/373",
        parts=_parts("F3[07][23]"),
        flash=Flash(
            kilobytes=_kilobytes(32, 64, 128, 256, 384, 512),
            pages=_pages(2),
            granule=4,
            corrects_errors=False,
        ),
        stacks=(_sram(64), _ccm(16)),
        source=_pattern(2, read=False),
    ),
    Family(
        name="stm32f4",
        title="STM32F2, F40x, F401, F411, F412, F413, F446",
        parts=_parts("F2[01][57]", "F4[01][0-9]", "F423", "F446"),
        flash=Flash(
            kilobytes=_kilobytes(128, 256, 384, 512, 768, 1024, 1536),
            pages=_F4_SECTORS,
            granule=4,
            corrects_errors=False,
        ),
        stacks=(_sram(320), _ccm(64)),
        protection=_F4_OPTIONS + 1,
        source=_pattern(1, read=False),
    ),
    Family(
        name="stm32f42x-1m",
        title="STM32F427/429/437/439/469/479 up to 1 MB",
        parts=_parts("F4[2367][79].[EG]"),
        flash=Flash(kilobytes=_kilobytes(512, 1024), pages=_F4_SECTORS, granule=4, corrects_errors=False),
        stacks=(_sram(192), _ccm(64)),
        protection=_F4_OPTIONS + 1,
        remark="BFB2 is reserved on these.",
        source=Source("RM0090, as quoted by users", Confidence.FIELD),
    ),
    Family(
        name="stm32f42x-2m",
        title="STM32F427/429/437/439/469/479 of 2 MB",
        parts=_parts("F4[2367][79].I"),
        flash=Flash(kilobytes=_kilobytes(2048), pages=_F4_SECTORS, granule=4, corrects_errors=False),
        stacks=(_sram(320), _ccm(64)),
        bank_check=BankCheck(
            setting="BFB2=1",
            bits=(_option("BFB2", 4, address=_F4_OPTIONS),),
            stacks=(_sram(112),),
            source=Source(
                "ST AN2606, pattern 5 and its dual-bank figure; seen to work on F469", Confidence.FIELD
            ),
        ),
        protection=_F4_OPTIONS + 1,
        remark="A cut while the vector sector is erased is more likely: its erase takes hundreds of milliseconds.",
        source=_pattern(5, read=False),
    ),
    Family(
        name="stm32f76x",
        title="STM32F765/767/769/777/779",
        parts=_parts("F7[67][579]"),
        flash=Flash(
            kilobytes=_kilobytes(1024, 2048),
            pages=_pages(16, 32, 64, 128, 256),
            granule=8,
            corrects_errors=False,
        ),
        stacks=(_sram(512),),
        bank_check=BankCheck(
            setting="nDBANK=0, nDBOOT=0",
            pages=_F4_SECTORS,
            first=1,
            stacks=(_sram(512),),
            source=Source("ST AN2606, pattern 9 and its dual-bank figure", Confidence.VENDOR),
        ),
        source=_pattern(9, read=False),
    ),
    Family(
        name="stm32f72x",
        title="STM32F72x, F73x, F74x, F75x",
        parts=_parts("F7[2-5][0-9]"),
        flash=Flash(
            kilobytes=_kilobytes(64, 256, 512, 1024),
            pages=_pages(16, 32, 64, 128, 256),
            granule=8,
            corrects_errors=False,
        ),
        stacks=(_sram(320),),
        source=_pattern(8, read=False),
    ),
    Family(
        name="stm32h7",
        title="STM32H72x to H75x, H7A3, H7B0, H7B3",
        parts=_parts("H7[2-5][0-9]", "H7[AB][03]"),
        flash=Flash(kilobytes=_kilobytes(128, 512, 1024, 2048), pages=_pages(8, 128), granule=32),
        stacks=(_sram(128), _sram(1024, 0x2400_0000), _sram(288, 0x3000_0000)),
        remark="Its banks are swapped by option bytes only, which no update writes.",
        source=_pattern(10, read=False),
    ),
    Family(
        name="stm32l07x",
        title="STM32L072/073/082/083",
        parts=_parts("L0[78][23]"),
        flash=Flash(kilobytes=_kilobytes(64, 128, 192), pages=_pages(0.125), granule=8, erased=0x00),
        stacks=(_sram(20),),
        bank_check=BankCheck(
            proven=False,
            doubt="the pattern is not read in the section of this family, and nobody is known to rely on it",
            setting="BFB2=1",
            stacks=(_sram(20),),
            source=_pattern(5, read=False),
        ),
        source=_pattern(5, read=False),
    ),
    Family(
        name="stm32l1",
        title="STM32L1",
        parts=_parts("L1[056][0-9]"),
        flash=Flash(
            kilobytes=_kilobytes(32, 64, 128, 256, 384, 512), pages=_pages(0.25, 4), granule=8, erased=0x00
        ),
        stacks=(_sram(80),),
        remark="The larger ones have a bank check of inverted polarity, which nothing here relies on.",
        source=_pattern(4, read=False),
    ),
    Family(
        name="stm32wb",
        title="STM32WB3x/5x",
        parts=_parts("WB[35][05]", "WB5M"),
        flash=Flash(kilobytes=_kilobytes(256, 320, 512, 640, 1024), pages=_pages(4), granule=8),
        stacks=(_sram(192),),
        empty_check=_EMPTY_CHECK,
        source=_pattern(16),
    ),
    Family(
        name="stm32u0-c0",
        title="STM32U073/083, C071",
        parts=_parts("U0[78]3", "C071"),
        flash=Flash(kilobytes=_kilobytes(64, 128, 256), pages=_pages(2), granule=8),
        stacks=(_sram(40),),
        empty_check=_EMPTY_CHECK,
        source=Source("ST AN2606, pattern 11; ST, Empty check mechanism on STM32", Confidence.VENDOR),
    ),
    Family(
        name="stm32c5",
        title="STM32C5",
        parts=_parts("C5"),
        flash=Flash(kilobytes=_kilobytes(128, 256, 512, 1024), pages=_pages(2, 4, 8), granule=16),
        stacks=(_sram(256),),
        empty_check=EmptyCheck(source=_pattern(19)),
        remark="Its loader shows no option bytes.",
        source=_pattern(19),
    ),
    Family(
        name="stm32-trustzone",
        title="STM32L5, U5, U3, H5, WBA",
        parts=_parts("L5", "U5", "U3", "H5", "WBA"),
        flash=Flash(kilobytes=_kilobytes(128, 256, 512, 1024, 2048, 4096), pages=_pages(2, 4, 8), granule=16),
        stacks=(_sram(3072), _sram(3072, 0x3000_0000)),
        remark="Its banks are swapped by option bytes only, which no update writes.",
        source=Source("ST AN2606, pattern 12, and 17 for H5", Confidence.VENDOR),
    ),
)
"""Every family with a DfuSe loader that a fact is known of; no part belongs to two."""
