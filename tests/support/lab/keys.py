"""Keys and certificates of a laboratory's own, for ssh and TLS between its hosts."""

import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .errors import LabError
from .layout import address

_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
_DAYS = ("-days", "30")


def make(directory: Path, hosts: Sequence[str]) -> None:
    """Write `ca.pem`, for each host `<host>.pem` and `.key`, its ssh key, and one of the user's."""
    directory.mkdir()
    jobs = [lambda: _certificates(directory, hosts), lambda: _ssh_key(directory / "user")]
    jobs += [lambda host=host: _ssh_key(directory / f"{host}-ssh") for host in hosts]  # type: ignore[misc]
    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(job) for job in jobs]:
            done.result()
    known = [
        f"{host},{address(host)} {(directory / f'{host}-ssh.pub').read_text()}" for host in hosts
    ]
    (directory / "known_hosts").write_text("".join(known))


def _certificates(directory: Path, hosts: Sequence[str]) -> None:
    authority, key = directory / "ca.pem", directory / "ca.key"
    subject = ("-subj", "/CN=authority of the laboratory")
    _run("openssl", "req", "-x509", *_CURVE, *_DAYS, *subject, "-keyout", key, "-out", authority)
    for host in hosts:
        request, extensions = directory / f"{host}.csr", directory / f"{host}.ext"
        own = ("-keyout", directory / f"{host}.key", "-out", request)
        _run("openssl", "req", *_CURVE, "-subj", f"/CN={host}", *own)
        extensions.write_text(
            f"subjectAltName=DNS:{host},IP:{address(host)}\n"
            "keyUsage=digitalSignature,keyEncipherment\n"
            "extendedKeyUsage=serverAuth,clientAuth\n"
        )
        _run(
            *("openssl", "x509", "-req", *_DAYS, "-in", request, "-extfile", extensions),
            *("-CA", authority, "-CAkey", key, "-CAcreateserial"),
            *("-out", directory / f"{host}.pem"),
        )


def _ssh_key(path: Path) -> None:
    _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", path)


def _run(*command: object) -> None:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
