"""Which offsets of a partition need not be read again, where some of them follow others that have to be."""

import zlib
from base64 import b64decode, b64encode

__all__ = ["SettledOffsets"]


class SettledOffsets:
    """Offsets of a partition that are settled, from about ``first`` on; ``text`` says which were before.

    Adding one takes the same time however many there are.

    >>> settled = SettledOffsets(100)
    >>> settled.add(103)
    >>> again = SettledOffsets(101, settled.text(101))
    >>> 102 in again, 103 in again
    (False, True)
    """

    def __init__(self, first: int, text: str = "") -> None:
        """``text`` is what `text` returned for the same ``first``. Raises ValueError for other text."""
        self._begin = first // 8
        """The first byte of `_bits`, among those for all offsets of the partition."""
        try:
            self._bits = bytearray(zlib.decompress(b64decode(text, validate=True)) if text else b"")
        except zlib.error as error:
            raise ValueError(f"{text[:40]!r} does not say which offsets are settled: {error}") from error

    def __contains__(self, offset: int) -> bool:
        byte = offset // 8 - self._begin
        return 0 <= byte < len(self._bits) and bool(self._bits[byte] >> offset % 8 & 1)

    def add(self, offset: int) -> None:
        """Settle an offset; one far before ``first`` is settled already."""
        byte = offset // 8 - self._begin
        if byte < 0:
            return
        if byte >= len(self._bits):
            self._bits.extend(bytes(byte + 1 - len(self._bits)))
        self._bits[byte] |= 1 << offset % 8

    def text(self, first: int) -> str:
        """Return, as text, which offsets from ``first`` on are settled; empty if none is.

        Earlier ones are forgotten.
        """
        gone = first // 8 - self._begin
        if gone >= 0:
            del self._bits[:gone]
            self._begin += gone
            self._bits[:1] = bytes(byte & 0xFF << first % 8 for byte in self._bits[:1])
        return b64encode(zlib.compress(self._bits, 1)).decode() if any(self._bits) else ""
