"""The folder of compiled kernels: private, repaired, and never the current one."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from minimand._support.errors import MinimandError
from minimand.inference.kernels import build

LIBRARY = b"a library of the fake compiler" * 100


@pytest.fixture
def compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Compile, and count the calls of a fake compiler."""
    (tmp_path / "library").write_bytes(LIBRARY)
    compiler = tmp_path / "compiler"
    compiler.write_text(f'#!/bin/sh\necho call >> {tmp_path}/calls\ncp {tmp_path}/library "$(eval echo \\${{$#}})"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TORCH_EXTENSIONS_DIR", raising=False)

    def compile_and_count() -> int:
        path = build._compiled()
        assert path.read_bytes() == LIBRARY
        assert path.is_relative_to(tmp_path / "cache" / "torch_extensions" / "minimand")
        assert not stat.S_IMODE(path.parent.stat().st_mode) & 0o022
        return len((tmp_path / "calls").read_text().splitlines())

    return compile_and_count


def _files(tmp_path: Path) -> dict[str, Path]:
    return {p.suffix: p for p in (tmp_path / "cache" / "torch_extensions" / "minimand").iterdir()}


@pytest.mark.parametrize("suffix", [".so", ".sum"])
@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "deleted"])
def test_a_damaged_library_is_compiled_again(
    compiled: Callable[[], int], tmp_path: Path, suffix: str, damage: str
) -> None:
    assert compiled() == 1
    assert compiled() == 1
    path = _files(tmp_path)[suffix]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    if damage == "deleted":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "cut": content[:-1], "flipped": content}[damage])
    assert compiled() == 2
    assert compiled() == 2
    assert set(_files(tmp_path)) == {".so", ".sum"}


def test_a_library_that_others_could_have_planted_is_not_run(compiled: Callable[[], int], tmp_path: Path) -> None:
    compiled()
    files = _files(tmp_path)
    for mode in (0o777, 0o775, 0o1777):
        before = compiled()
        files[".so"].write_bytes(b"planted")
        files[".sum"].write_text(build._digest(files[".so"]))
        files[".so"].parent.chmod(mode)
        assert compiled() == before + 1


def test_a_folder_of_somebody_else_is_not_used(
    compiled: Callable[[], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled()
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    with pytest.raises(MinimandError, match=f"minimand belongs to user {user}, and this is user {user + 1}"):
        compiled()


@pytest.mark.parametrize("name", ["XDG_CACHE_HOME", "TORCH_EXTENSIONS_DIR", "HOME"])
@pytest.mark.parametrize("value", ["", "here", "."])
def test_the_current_folder_is_never_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    for other in ("XDG_CACHE_HOME", "TORCH_EXTENSIONS_DIR"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(name, value)
    if value:
        with pytest.raises(MinimandError, match="depends on the current one"):
            build._cache()
    else:
        assert build._cache().is_absolute()
        assert not build._cache().is_relative_to(tmp_path)


@pytest.mark.parametrize(("words", "message"), [('c++ "', "CXX is 'c\\+\\+ \"', which is no command: no closing")])
def test_a_compiler_that_is_no_command_is_named(monkeypatch: pytest.MonkeyPatch, words: str, message: str) -> None:
    monkeypatch.setenv("CXX", words)
    with pytest.raises(MinimandError, match=message):
        build._compiler()
    build.library.cache_clear()
    with pytest.warns(UserWarning, match=message):
        assert build.library() is None
    build.library.cache_clear()
    for default in ("", "  "):
        monkeypatch.setenv("CXX", default)
        assert build._compiler() == ["c++"]
