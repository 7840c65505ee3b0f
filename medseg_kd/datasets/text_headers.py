"""MetaImage and NRRD files: a header of text, then the voxels, or the name of the file that has them.

A header is checked before ITK sees it: a long line runs over ITK's buffers, and a name may lead anywhere.
"""

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path

from medseg_kd.datasets.listings import is_plain_name
from medseg_kd.errors import UserError

TEXT_HEADERS = (".mha", ".mhd", ".nrrd", ".nhdr")
_BLOCK = 1 << 20
_ANY_HEADER = 47  # zlib's or gzip's
_MOST_LINES = 1000
_LONGEST = 400
"""Characters of a line, which nine numbers in full precision do not reach."""
_LONGEST_REMARK = 1 << 16
_FIELD = re.compile(r"\s*([^:=]+?)\s*[:=]\s*(.*?)\s*")
_NUMBER = r"[-+]?(?:\d{1,25}(?:\.\d{0,25})?|\.\d{1,25})(?:[eE][-+]?\d{1,3})?"
_NUMBERS = rf"{_NUMBER}(?: +{_NUMBER}){{0,8}}"
_VECTOR = rf"(?:none|\({_NUMBER}(?:, *{_NUMBER}){{0,3}}\))"
_VECTORS = rf"{_VECTOR}(?: +{_VECTOR}){{0,3}}"
_WORDS = r"[\w?*-]{1,40}(?: +[\w?*-]{1,40}){0,3}"
_QUOTED = r'"[^"\\]{0,60}"(?: +"[^"\\]{0,60}"){0,3}'
_SIZES = r"\d{1,9}(?: +\d{1,9}){0,3}"
_NRRD = {
    **dict.fromkeys(("encoding", "datafile", "byteskip", "lineskip"), ".{1,200}"),
    "dimension": "[1-4]",
    "spacedimension": "[1-4]",
    "sizes": _SIZES,
    "type": _WORDS,
    "space": _WORDS,
    **dict.fromkeys(("kinds", "centers", "centerings", "endian"), _WORDS),
    **dict.fromkeys(("spaceorigin", "spacedirections", "measurementframe"), _VECTORS),
    **dict.fromkeys(("spacings", "thicknesses", "axismins", "axismaxs", "min", "max", "oldmin", "oldmax"), _NUMBERS),
    **dict.fromkeys(("labels", "units", "spaceunits"), _QUOTED),
    **dict.fromkeys(("content", "sampleunits"), "[^%]{0,100}"),
}
"""Fields, in small letters and without blanks, and what they hold: of all others, and other values, ITK may crash."""
_META = {
    "ndims": "[1-4]",
    "dimsize": _SIZES,
    "elementtype": "MET_[A-Z_]{1,40}",
    **dict.fromkeys(("elementspacing", "elementsize", "offset", "position", "origin", "centerofrotation"), _NUMBERS),
    **dict.fromkeys(("transformmatrix", "rotation", "orientation"), _NUMBERS),
}
_NEEDED = {"NDims", "DimSize", "ElementType", "ElementDataFile"}
_SKIPS = ("lineskip", "byteskip", "headersize")


@dataclass(frozen=True)
class TextHeader:
    """How voxels are stored: in which file beside this one, "" for this one; whether packed, and in how many bytes."""

    elsewhere: str
    packed: bool
    stored: str | None


def read_text_header(file: BufferedIOBase, path: Path) -> TextHeader:
    """Read a header to its end, where the voxels may follow.

    Raises:
        UserError: ITK must not see it, or cannot read the voxels.
    """
    nrrd = path.suffix.lower() in (".nrrd", ".nhdr")
    told: dict[str, str] = {}
    missing = set() if nrrd else {*_NEEDED}
    for field, value in _fields(file, path, nrrd):
        missing.discard(field)
        name = field.lower()
        if name in told and (nrrd or name in (*_META, "elementdatafile", "compresseddata", "compresseddatasize")):
            raise UserError(f"{path}: its header tells {name} twice. Save it anew")
        if not re.fullmatch(_NRRD.get(name, "(?!)") if nrrd else _META.get(name, ".{0,100}"), value):
            raise UserError(f"{path}: {field[:40]} in its header is {value!r:.60}, which is unusual. Save it anew")
        told[name] = value
    if missing:
        raise UserError(f"cannot read {path}: its header lacks {min(missing)}. Save it anew")
    encoding = told.get("encoding", "").lower()
    packed = encoding in ("gzip", "gz") if nrrd else told.get("compresseddata", "").lower() == "true"
    is_text = encoding != "raw" if nrrd else told.get("binarydata", "true").lower() != "true"
    if (is_text and not (nrrd and packed)) or (packed and any(told.get(name, "0") != "0" for name in _SKIPS)):
        raise UserError(f"{path}: its voxels are text, or packed in an unusual way. Save it raw or with gzip")
    elsewhere = told.get("datafile", "LOCAL") if nrrd else told.get("elementdatafile", "")
    is_here = elsewhere.upper() == "LOCAL"
    if not is_here and (not is_plain_name(elsewhere) or elsewhere == "LIST" or re.search("[% ]", elsewhere)):
        raise UserError(
            f"{path} takes its voxels from {elsewhere!r}, expected one file beside it. Save it with its voxels inside, "
            "as .mha or .nrrd"
        )
    return TextHeader("" if is_here else elsewhere, packed, told.get("compresseddatasize"))


def check_voxels(path: Path, size: int) -> None:
    """Refuse a file whose voxels are not of this size in bytes; no more than that is unpacked."""
    with path.open("rb") as file:
        header = read_text_header(file, path)
        if header.elsewhere:
            beside = path.with_name(header.elsewhere)
            if not beside.is_file():
                raise UserError(f"{path} takes its voxels from {beside.name}, which is not beside it. Copy both")
            with beside.open("rb") as voxels:
                there, stored = _measured(voxels, header.packed, size)
        else:
            there, stored = _measured(file, header.packed, size)
    if there < size or (header.packed and there > size):
        raise EOFError(f"{there} bytes of voxels, where its header tells {size}")
    # Of a MetaImage with another size, or none, ITK leaves the voxels unset.
    if header.packed and path.suffix.lower() in (".mha", ".mhd") and header.stored != str(stored):
        raise EOFError("CompressedDataSize in the header is not that of the voxels")


def _fields(file: BufferedIOBase, path: Path, nrrd: bool) -> Iterator[tuple[str, str]]:
    """Names, in NRRD without blanks, and values of a header, up to its end."""
    for number in range(_MOST_LINES):
        line = file.readline(_LONGEST_REMARK).decode(errors="replace").rstrip("\r\n").replace("\t", " ")
        if nrrd and (
            line.startswith("#") or line.partition(":")[2].startswith("=") or (not number and line[:4] == "NRRD")
        ):
            continue
        if not line.strip() and number:
            return
        match = _FIELD.fullmatch(line)
        if not match or len(line) > _LONGEST or not line.isprintable():
            break
        name = match[1].replace(" ", "") if nrrd else match[1]
        yield name, match[2]
        if name.lower() == "elementdatafile" and not nrrd:
            return
    raise UserError(f"cannot read {path}: damaged, its header is not one of MetaImage or NRRD. Copy or save it again")


def _measured(file: BufferedIOBase, packed: bool, most: int) -> tuple[int, int]:
    """Bytes of the voxels that follow, unpacked not much further than ``most``, and of what is stored."""
    if not packed:
        place = file.tell()
        return file.seek(0, 2) - place, 0
    unpacker, unpacked, stored = zlib.decompressobj(_ANY_HEADER), 0, 0
    while not unpacker.eof and unpacked <= most:
        block = unpacker.unconsumed_tail or file.read(_BLOCK)
        values = unpacker.decompress(block, _BLOCK)
        if not (block or values or unpacker.eof):
            raise EOFError("the compressed voxels end early")
        unpacked += len(values)
        stored += len(block) - len(unpacker.unconsumed_tail) - len(unpacker.unused_data)
    return unpacked, stored
