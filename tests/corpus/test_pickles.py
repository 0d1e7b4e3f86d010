"""The restricted unpickler reads what is data and runs nothing."""

import builtins
import contextlib
import io
import os
import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from affectus.corpus.readers.pickles import as_text, load_pickle
from affectus.errors import AffectusError

DATA = {
    "floats": np.arange(6.0).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
    "big": np.arange(3, dtype=">f4"),
    "little": np.arange(3, dtype="<f4"),
    "half": np.arange(3, dtype=np.float16),
    "text": np.array(["a", "bcd"]),
    "bytes": np.array([b"ab"]),
    "objects": np.array(["word", None, 3], object),
    "scalar": np.float32(3),
    "flag": np.bool_(True),
    "none": np.zeros((0, 3)),
    "list": [1, 2.5, "ü", 10**30, None, (True, False)],
    "raw": b"\x00\xff",
    "empty": b"",
    "mutable": bytearray(b"ab"),
    "set": {1, 2},
    "frozen": frozenset({3}),
    "complex": 3j,
    "ordered": OrderedDict(a=1, b=[np.int64(4)]),
}


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("protocol", range(6))
def test_reads_arrays_and_containers(tmp_path: Path, protocol: int) -> None:
    dumped = pickle.dumps(DATA, protocol=protocol)
    found, expected = load_pickle(write(tmp_path / "x.pkl", dumped)), pickle.loads(dumped, encoding="latin1")
    for key, value in expected.items():
        assert type(found[key]) is type(value), key
        if isinstance(value, np.ndarray):
            assert found[key].dtype == value.dtype, key
            np.testing.assert_array_equal(found[key], DATA[key])
        else:
            assert found[key] == value, key


def test_reads_old_and_new_names_of_numpy(tmp_path: Path) -> None:
    dumped = pickle.dumps(np.arange(3.0), protocol=2)
    old, new = b"numpy.core.multiarray", b"numpy._core.multiarray"
    for one, other in ((new, old), (old, new)):
        np.testing.assert_array_equal(
            load_pickle(write(tmp_path / "x.pkl", dumped.replace(one, other))), np.arange(3.0)
        )


def test_reads_python_2(tmp_path: Path) -> None:
    """The bytes are what Python 2.7 and NumPy 1.16 write for {'é': np.array([1., 2.]), u'u': ['a']}, protocol 2."""
    raw = struct.pack("<2d", 1, 2)
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85U\x01b\x87Rq\x04"
        b"(K\x01K\x02\x85cnumpy\ndtype\nq\x05U\x02f8K\x00K\x01\x87Rq\x06(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U\x10" + raw + b"tb"
    )
    pickled = b"\x80\x02}q\x00(U\x02\xc3\xa9q\x01" + array + b"X\x01\x00\x00\x00u]q\x07U\x01aau."
    found = load_pickle(write(tmp_path / "x.pkl", pickled))
    assert [as_text(key) for key in found] == ["é", "u"]
    np.testing.assert_array_equal(found["\xc3\xa9"], [1.0, 2.0])


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def hostile(marker: Path) -> dict[str, bytes]:
    """Return pickles that would make the file ``marker`` if they were run."""
    touch = f"touch {marker}"
    code = f"open({str(marker)!r}, 'w')"
    path = str(marker).encode()
    closed = b"\x80\x04cnumpy.core.multiarray\n_reconstruct\n"
    return {
        "os.system": pickle.dumps(Call(os.system, touch)),
        "eval": pickle.dumps(Call(eval, code)),
        "exec in a list": pickle.dumps([1, {"a": Call(exec, code)}]),
        "open": pickle.dumps(Call(open, str(marker), "w")),
        "getattr": pickle.dumps(Call(getattr, "", "join")),
        "in an object array": pickle.dumps(np.array([Call(os.system, touch)], object)),
        "as an argument": pickle.dumps(Call(list, Call(os.system, touch))),
        "inside a call of numpy": pickle.dumps(Call(np.dtype, Call(os.system, touch))),
        "dotted": b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__class__\x93\x8c\x01x\x85R.",
        "dotted into globals": b"\x80\x04\x8c\x15numpy.core.multiarray\x8c\x19_reconstruct.__globals__\x93.",
        "numpy's own runner": b"\x80\x02cnumpy.testing._private.utils\nrunstring\nX\x01\x00\x00\x001}\x86R.",
        "numpy.load": b"\x80\x02cnumpy\nload\nX\x01\x00\x00\x00x\x85R.",
        "INST": b"\x80\x02(X" + struct.pack("<I", len(touch)) + touch.encode() + b"ios\nsystem\n.",
        "OBJ": b"\x80\x02(cos\nsystem\nX" + struct.pack("<I", len(touch)) + touch.encode() + b"o.",
        "NEWOBJ": b"\x80\x02cpathlib\nPath\nX" + struct.pack("<I", len(path)) + path + b"\x85\x81.",
        "persistent id": b"\x80\x02Pos.system\n.",
        "extension": b"\x80\x02\x82\x01.",
        "state of a function": closed + b"}X\x01\x00\x00\x00xK\x01sb.",
        "slots of a function": closed + b"N}X\x08\x00\x00\x00__call__K\x01s\x86b.",
        "state of a list": b"\x80\x02]}X\x01\x00\x00\x00xK\x01sb.",
        "array of another class": closed + b"c__builtin__\nlist\nK\x00\x85C\x01b\x87R.",
        "structured dtype": pickle.dumps(np.zeros(1, [("a", "f4")])),
        "range": pickle.dumps(range(3)),
    }


@pytest.mark.parametrize("name", hostile(Path("marker")))
def test_runs_nothing(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = tmp_path / "marker"
    source = write(tmp_path / "x.pkl", hostile(marker)[name])
    called: list[str] = []
    for function in (os.system, builtins.eval, builtins.exec, builtins.open):
        module = os if function is os.system else builtins
        monkeypatch.setattr(module, function.__name__, lambda *a, f=function: called.append(f.__name__))
    with pytest.raises(AffectusError, match=r"names something that is not data|Not a whole pickle of arrays"):
        load_pickle(source)
    monkeypatch.undo()
    assert not marker.exists()
    assert called == []


def test_such_a_pickle_would_run(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    pickle.loads(hostile(marker)["os.system"])
    assert marker.exists()


def test_names_what_was_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "x.pkl", pickle.dumps(Call(eval, "1")))
    with pytest.raises(AffectusError, match=r"got builtins\.eval; expected NumPy arrays and plain containers only"):
        load_pickle(source)


HUGE = {
    "bytes of an exabyte": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"x.",
    "bytearray of an exabyte": b"\x80\x05\x96" + struct.pack("<Q", 1 << 60) + b"x.",
    "bytearray of a number": b"\x80\x02c__builtin__\nbytearray\nJ\xff\xff\xff\x7f\x85R.",
    "frame of an exabyte": b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"x.",
    "string of 4 GB": b"\x80\x02X\xff\xff\xff\xffx.",
    "integer of 2 GB": b"\x80\x02\x8b\xff\xff\xff\x7fx.",
    "array without its bytes": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    b"(K\x01\x8a\x06\x00\x00\x00\x00\x00\x01\x85cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R(K\x03U\x01<NNNK\x00K\x00K\x00tb"
    b"\x89U\x01xtb.",
    "list of a number": b"\x80\x02c__builtin__\nlist\nJ\xff\xff\xff\x7f\x85R.",
}


@pytest.mark.parametrize("name", HUGE)
def test_claims_of_size_reserve_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises(AffectusError, match="Not a whole pickle of arrays"):
        load_pickle(write(tmp_path / "x.pkl", HUGE[name]))


def test_a_large_memo_index_reserves_nothing(tmp_path: Path) -> None:
    assert load_pickle(write(tmp_path / "x.pkl", b"\x80\x02]r\xff\xff\xff\x7f.")) == []


def test_deep_nesting_is_no_problem(tmp_path: Path) -> None:
    found = load_pickle(write(tmp_path / "x.pkl", b"\x80\x02" + b"(" * 100_000 + b"t" * 100_000 + b"."))
    assert isinstance(found, tuple)
    while found:
        (found,) = found


def test_a_byte_order_does_not_leak_into_other_arrays(tmp_path: Path) -> None:
    data = [np.arange(3, dtype=order + "f4") for order in (">", "<", ">", "=")]
    for array in load_pickle(write(tmp_path / "x.pkl", pickle.dumps(data, 2))):
        np.testing.assert_array_equal(array, [0, 1, 2])


WHOLE = pickle.dumps({"a": np.arange(4.0), "w": ["x", b"y"], "s": {np.float32(1)}}, protocol=4)


@pytest.mark.parametrize("length", range(1, len(WHOLE) - 1, 7))
def test_truncated(tmp_path: Path, length: int) -> None:
    source = write(tmp_path / "x.pkl", WHOLE[:length])
    with pytest.raises(AffectusError, match=r"Not a whole pickle of arrays|names something"):
        load_pickle(source)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(2, len(WHOLE) - 1), st.binary(min_size=1, max_size=4), st.booleans())
def test_damage_never_does_more_than_fail(tmp_path: Path, place: int, junk: bytes, insert: bool) -> None:
    damaged = WHOLE[:place] + junk + WHOLE[place if insert else place + len(junk) :]
    with contextlib.suppress(AffectusError):
        load_pickle(write(tmp_path / "x.pkl", damaged))


def test_empty_absent_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(AffectusError, match="The file is empty"):
        load_pickle(write(tmp_path / "empty.pkl", b""))
    with pytest.raises(AffectusError, match="There is no file"):
        load_pickle(tmp_path / "absent.pkl")
    buffer = io.BytesIO()
    np.savez(buffer, a=np.zeros(2))
    with pytest.raises(AffectusError, match=r"got a NumPy \.npz archive; expected a pickle"):
        load_pickle(write(tmp_path / "x.pkl", buffer.getvalue()))
