"""Certificate authorities of the tests, and the servers' certificates that they sign."""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

__all__ = ["Authority"]

CONFIG: Final = """
[req]
distinguished_name = name
prompt = no
[name]
CN = {name}
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
subjectAltName = IP:{address}
authorityKeyIdentifier = keyid
"""
KEY: Final = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc")


@dataclass(frozen=True)
class Authority:
    """An authority whose files are in ``folder``; needs openssl."""

    folder: Path

    @classmethod
    def create(cls, folder: Path) -> Self:
        """Make an authority with a key of its own."""
        folder.mkdir(parents=True)
        authority = cls(folder)
        made = ["-x509", *KEY, "-extensions", "authority", "-days", "2"]
        authority._openssl("req", *made, "-keyout", authority._key, "-out", authority.certificate)
        return authority

    @property
    def certificate(self) -> Path:
        """The file that clients trust."""
        return self.folder / "ca.pem"

    @property
    def _key(self) -> Path:
        return self.folder / "ca.key"

    def server(self, address: str = "127.0.0.1") -> dict[str, Path]:
        """Sign a certificate for the server at ``address``; return uvicorn's options."""
        key, request, signed = (self.folder / f"{address}.{kind}" for kind in ("key", "csr", "pem"))
        self._openssl("req", "-new", *KEY, "-keyout", key, "-out", request)
        authority: list[str | Path] = ["-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial"]
        extensions: list[str | Path] = ["-extfile", self._config(address), "-extensions", "server"]
        command: list[str | Path] = ["openssl", "x509", "-req", "-days", "2", "-in", request, "-out", signed]
        subprocess.run([*command, *authority, *extensions], check=True, capture_output=True, timeout=60)
        return {"ssl_keyfile": key, "ssl_certfile": signed}

    def _openssl(self, *arguments: str | Path) -> None:
        command = ["openssl", *arguments, "-config", self._config()]
        subprocess.run(command, check=True, capture_output=True, timeout=60)

    def _config(self, address: str = "127.0.0.1") -> Path:
        path = self.folder / "openssl.cnf"
        path.write_text(CONFIG.format(name=self.folder.name, address=address))
        return path
