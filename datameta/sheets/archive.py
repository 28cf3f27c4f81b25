"""Spreadsheets are zip archives of strangers: what they declare is checked first, and then held to.

No member is inflated that breaks a bound by its own word, and none yields a byte more or less than it declared.
"""

import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from datameta.sheets.limits import Limits
from datameta.sheets.values import SheetError

END_RECORD = b"PK\5\6"
END_RECORD_SIZE = 22
LONGEST_COMMENT = 0xFFFF
LONGEST_DIRECTORY = 1 << 18
LOCAL_HEADER_SIZE = 30
CHUNK_SIZE = 1 << 17
IS_ENCRYPTED = 1
SIZES_FOLLOW = 8


class Archive:
    """The members of a zip file that has passed all checks."""

    def __init__(self, file: BinaryIO, limits: Limits) -> None:
        self._file = file
        check_end_record(file, limits)
        try:
            with zipfile.ZipFile(file) as archive:
                members = archive.infolist()
        except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, OSError, OverflowError) as error:
            raise broken("its table of contents can't be read") from error
        check_members(members, limits)
        self._members = {member.filename.replace("\\", "/").lower(): member for member in members}
        if len(self._members) < len(members):
            raise SheetError("The file is broken: two of its members have the same name.", "broken_file")

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._members

    def read(self, name: str, most: int) -> bytes:
        """Return a small member's content. Raises ``SheetError`` if it is missing, or has more than ``most`` bytes."""
        if name in self and self._members[name.lower()].file_size > most:
            raise SheetError(f"The file's member {name} has more than {most:,} bytes.", "zip_bomb")
        return b"".join(self.stream(name))

    def stream(self, name: str) -> Iterator[bytes]:
        """Yield a member's content. Raises ``SheetError`` where it is not what the archive says it is."""
        member = self._members.get(name.lower())
        if member is None:
            raise broken(f"its member {name} is missing")
        self._file.seek(member.header_offset)
        header = self._file.read(LOCAL_HEADER_SIZE)
        if len(header) < LOCAL_HEADER_SIZE or header[:4] != b"PK\3\4":
            raise broken(f"its member {name} does not begin where it should")
        flags, method, *_, name_length, extra_length = struct.unpack("<HHHHIIIHH", header[6:])
        if method != member.compress_type or (flags ^ member.flag_bits) & (IS_ENCRYPTED | SIZES_FOLLOW):
            raise broken(f"its member {name} is described in two ways")
        offset = member.header_offset + LOCAL_HEADER_SIZE + name_length + extra_length
        return self._inflate(member, offset)

    def _inflate(self, member: zipfile.ZipInfo, offset: int) -> Iterator[bytes]:
        left, size, checksum = member.compress_size, 0, 0
        inflate = zlib.decompressobj(-zlib.MAX_WBITS) if member.compress_type == zipfile.ZIP_DEFLATED else None
        rest = data = b""
        while rest or left or (inflate is not None and not inflate.eof and data):
            if not rest and left:
                # Each time to the place: several members are read side by side.
                self._file.seek(offset)
                rest = self._file.read(min(CHUNK_SIZE, left))
                offset, left = offset + len(rest), left - len(rest)
                if not rest:
                    raise broken("it ends too early")
            if inflate is None:
                data, rest = rest, b""
            else:
                try:
                    data = inflate.decompress(rest, CHUNK_SIZE)
                except zlib.error as error:
                    raise broken(f"{member.filename} can't be inflated") from error
                rest = inflate.unconsumed_tail
            size += len(data)
            if size > member.file_size or (inflate is not None and inflate.eof and (inflate.unused_data or left)):
                raise SheetError(f"The file's member {member.filename} is larger than it says.", "zip_bomb")
            checksum = zlib.crc32(data, checksum)
            if data:
                yield data
        if size < member.file_size or (inflate is not None and not inflate.eof):
            raise broken(f"{member.filename} ends too early")
        if checksum != member.CRC:
            raise broken(f"the checksum of {member.filename} is not that of its content")


def check_end_record(file: BinaryIO, limits: Limits) -> None:
    """Check what the archive says of its table of contents, before anybody reads that."""
    size = file.seek(0, 2)
    file.seek(max(0, size - END_RECORD_SIZE - LONGEST_COMMENT))
    tail = file.read()
    found = tail.rfind(END_RECORD)
    if found < 0 or len(tail) - found < END_RECORD_SIZE:
        raise broken("it begins as a zip archive and does not end as one")
    count, directory_size = struct.unpack("<HI", tail[found + 10 : found + 16])
    if count > limits.members or directory_size > LONGEST_DIRECTORY:
        raise SheetError(f"The file has more than {limits.members} members.", "zip_bomb")


def check_members(members: list[zipfile.ZipInfo], limits: Limits) -> None:
    """Check what the archive says of its members."""
    if len(members) > limits.members:
        raise SheetError(f"The file has more than {limits.members} members.", "zip_bomb")
    if sum(member.file_size for member in members) > limits.inflated_size:
        raise SheetError(f"The file would inflate to more than {limits.inflated_size:,} bytes.", "zip_bomb")
    end = 0
    for member in sorted(members, key=lambda member: member.header_offset):
        if member.flag_bits & IS_ENCRYPTED:
            raise SheetError("The file is encrypted; remove its password and send it again.", "encrypted")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise broken(f"{member.filename} is compressed in a way that spreadsheets do not use")
        is_large = member.file_size > limits.ratio_exempt_size
        if is_large and member.file_size > limits.ratio * member.compress_size:
            message = f"The file's member {member.filename} inflates to more than {limits.ratio} times its size."
            raise SheetError(message, "zip_bomb")
        if member.header_offset < 0:
            raise broken(f"{member.filename} begins before the file")
        if member.header_offset < end:
            raise SheetError(f"The file's member {member.filename} lies within another one.", "zip_bomb")
        end = member.header_offset + LOCAL_HEADER_SIZE + member.compress_size


def broken(reason: str) -> SheetError:
    """Return the error of a file that is damaged."""
    return SheetError(f"The file is broken: {reason}.", "broken_file")
