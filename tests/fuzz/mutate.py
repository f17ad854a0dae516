"""Files that went wrong: what disks, networks, editors and people with bad intentions make of one."""

from collections.abc import Callable, Sequence
from random import Random

_NUMBERS = (
    b"0",
    b"-1",
    b"1e999",
    b"99999999999999999999",
    b"4294967295",
    b"NaN",
    b"null",
    b"true",
    b"[]",
    b'""',
    b"{}",
)
_WORDS = (
    b"\0",
    b"\xff\xfe",
    b"\n",
    b"'",
    b'"',
    b"{",
    b"[",
    b"]",
    b"}",
    b"&a [*a, *a]",
    b": ",
    b"../../etc/passwd",
    b"%",
)
_SIZES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
_LONGEST = 2**20


def mutated(content: bytes, random: Random) -> bytes:
    """The content of a file after one to three accidents."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        content = random.choice(_ACCIDENTS)(content, random)[:_LONGEST]
    return content


def _place(content: bytes, random: Random) -> int:
    """A place in the content: half of the time near its begin or its end, where headers are."""
    n = len(content)
    near = random.choice((n, n, min(n, 64), min(n, 1024), -min(n, 64)))
    return n + random.randint(near, 0) if near < 0 else random.randint(0, near)


def _flip(content: bytes, random: Random) -> bytes:
    if not content:
        return content
    at = min(_place(content, random), len(content) - 1)
    return content[:at] + bytes([content[at] ^ (1 << random.randrange(8))]) + content[at + 1 :]


def _set_byte(content: bytes, random: Random) -> bytes:
    at = _place(content, random)
    return content[:at] + bytes([random.randrange(256)]) + content[at + 1 :]


def _truncate(content: bytes, random: Random) -> bytes:
    return content[: _place(content, random)]


def _behead(content: bytes, random: Random) -> bytes:
    return content[_place(content, random) :]


def _blank(content: bytes, random: Random) -> bytes:
    """A block of zeros, as a file system leaves it after a power cut."""
    at, n = _place(content, random), random.choice((1, 8, 512, 4096))
    n = min(n, len(content) - at)
    return content[:at] + bytes(n) + content[at + n :]


def _remove(content: bytes, random: Random) -> bytes:
    at, n = _place(content, random), random.choice((1, 2, 8, 64, 512))
    return content[:at] + content[at + n :]


def _repeat(content: bytes, random: Random) -> bytes:
    at, n = _place(content, random), random.choice((1, 8, 64, 512))
    return content[: at + n] + content[at : at + n] * random.choice((1, 1, 1, 100)) + content[at + n :]


def _move(content: bytes, random: Random) -> bytes:
    """A block in the place of another."""
    source, target, n = _place(content, random), _place(content, random), random.choice((1, 4, 8, 64))
    return content[:target] + content[source : source + n] + content[target + n :]


def _size(content: bytes, random: Random) -> bytes:
    """A number that no reader expects in the place of a binary one."""
    at, n = _place(content, random), random.choice((1, 2, 4, 8))
    number = random.choice(_SIZES) % 2 ** (8 * n)
    return content[:at] + number.to_bytes(n, random.choice(("little", "big"))) + content[at + n :]


def _insert(content: bytes, random: Random) -> bytes:
    at = _place(content, random)
    return content[:at] + random.choice(_WORDS) * random.choice((1, 1, 1, 1000)) + content[at:]


def _number(content: bytes, random: Random) -> bytes:
    """Another value in the place of a written number."""
    at = _place(content, random)
    while at < len(content) and not content[at : at + 1].isdigit():
        at += 1
    end = at
    while end < len(content) and content[end : end + 1].isdigit():
        end += 1
    return content[:at] + random.choice(_NUMBERS) + content[end:]


def _line(content: bytes, random: Random) -> bytes:
    """A line less, or twice, or two exchanged."""
    lines = content.split(b"\n")
    i, j = random.randrange(len(lines)), random.randrange(len(lines))
    match random.randrange(3):
        case 0:
            del lines[i]
        case 1:
            lines.insert(j, lines[i])
        case _:
            lines[i], lines[j] = lines[j], lines[i]
    return b"\n".join(lines)


def _replace_all(content: bytes, random: Random) -> bytes:
    """Another file altogether."""
    return random.choice(
        (b"", b"\0" * 100, b"hello", b"{}", b"[]", b"null", bytes(random.randbytes(200)), b"[" * 10_000)
    )


_ACCIDENTS: Sequence[Callable[[bytes, Random], bytes]] = (
    *(_flip, _flip, _flip, _set_byte, _truncate, _behead, _blank, _remove, _repeat, _move, _size, _size),
    *(_insert, _number, _number, _line, _line, _replace_all),
)
