"""A mosquitto that refuses subscriptions, by its plug-in for dynamic security."""

import json
from functools import cache
from pathlib import Path

from fastlib.transport import MqttOptions, connect
from tests.support.mosquitto import PATIENCE, Mosquitto

PLUGIN = "mosquitto_dynamic_security.so"
CONTROL = "$CONTROL/dynamic-security/v1"
"""The topic on which the plug-in gets commands."""
FOLDERS = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/opt/homebrew/lib")


@cache
def plugin() -> Path:
    """Return the path of the plug-in, which comes with mosquitto."""
    found = [path for folder in FOLDERS for path in Path(folder).glob(f"**/{PLUGIN}")]
    assert found, f"{PLUGIN} is not installed: it comes with mosquitto 2"
    return found[0]


class ChoosyMosquitto(Mosquitto):
    """Refuses the subscriptions to some filters. Other filters may match the same topics."""

    def __init__(self, directory: Path, *refused: str) -> None:
        directory.mkdir()
        self._rules = directory / "rules.json"
        self.refuse(*refused)
        settings = (f"plugin {plugin()}", f"plugin_opt_config_file {self._rules}")
        super().__init__(directory, settings=settings)

    def refuse(self, *filters: str, others: bool = False) -> None:
        """Set the refused filters from the next start on: these, or also all `others`."""
        rules = [
            {"acltype": "subscribeLiteral", "topic": one, "priority": 1, "allow": False}
            for one in filters
        ]
        # The default access does not permit this one.
        rules.append(
            {"acltype": "publishClientSend", "topic": CONTROL, "priority": 1, "allow": True}
        )
        access = ("publishClientSend", "publishClientReceive", "subscribe", "unsubscribe")
        self._rules.write_text(
            json.dumps(
                {
                    "defaultACLAccess": dict.fromkeys(access, True) | {"subscribe": not others},
                    "roles": [{"rolename": "rules", "acls": rules}],
                    "groups": [{"groupname": "all", "roles": [{"rolename": "rules"}]}],
                    "anonymousGroup": "all",
                    "clients": [],
                }
            )
        )
        self._rules.chmod(0o600)

    def permit_others(self) -> None:
        """Refuse only the filters from now on. No connection ends thereby."""
        access = [{"acltype": "subscribe", "allow": True}]
        command = {"command": "setDefaultACLAccess", "acls": access}
        options = MqttOptions(host="127.0.0.1", port=self.port)
        with connect(options) as administrator:
            payload = json.dumps({"commands": [command]}).encode()
            administrator.send(payload, CONTROL).wait(PATIENCE)
