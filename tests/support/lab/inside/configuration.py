"""The configuration files of a host."""

from collections.abc import Sequence
from uuid import UUID

from tests.support.lab.layout import BROKER, BROKER_ADDRESS, address

# libvirt gives a silent peer up after interval x (count + 1); by itself it would be 30 s.
_KEEPALIVE = """\
keepalive_interval = 2
keepalive_count = 5
"""

QEMU = (
    """\
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
stdio_handler = "file"
namespaces = [ ]
# Hosts that share a kernel would fight over the same names of cgroups.
cgroup_controllers = [ ]
"""
    + _KEEPALIVE
)

SSH = """\
Host *
  IdentityFile /etc/ssh/lab_user_key
  UserKnownHostsFile /etc/ssh/lab_known_hosts
  StrictHostKeyChecking yes
  BatchMode yes
  ConnectTimeout 10
"""

SSHD = """\
HostKey /etc/ssh/lab_host_key
AuthorizedKeysFile /etc/ssh/lab_authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
StrictModes no
MaxStartups 100
Subsystem sftp internal-sftp
"""


def hosts(names: Sequence[str]) -> str:
    lines = ["127.0.0.1 localhost", f"{BROKER_ADDRESS} {BROKER}"]
    return "\n".join([*lines, *(f"{address(name)} {name}" for name in names), ""])


def libvirtd(identity: UUID, name: str) -> str:
    """`identity`: two hosts of one identity refuse to migrate to each other."""
    return (
        f"""\
host_uuid = "{identity}"
listen_tls = 1
listen_tcp = 1
listen_addr = "{address(name)}"
auth_tcp = "none"
auth_tls = "none"
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_rw_perms = "0700"
max_clients = 200
log_outputs = "3:stderr"
"""
        + _KEEPALIVE
    )


def mosquitto(port: int, log: str) -> str:
    return f"""\
listener {port} {BROKER_ADDRESS}
allow_anonymous true
user root
log_dest file {log}
log_type error
log_type warning
log_type notice
max_queued_messages 100000
"""
