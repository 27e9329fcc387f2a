"""A client of yaml-language-server, which editors run for YAML files, over stdio."""

import json
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PROGRAM = "node_modules/yaml-language-server/bin/yaml-language-server"


class LanguageServer:
    """A running server, whose files are those of the given schemas."""

    def __init__(self, folder: Path, schemas: dict[Path, str]) -> None:
        """`folder` has the installed packages; `schemas` has a pattern of files for each schema."""
        self._settings = {
            "schemas": {schema.as_uri(): [pattern] for schema, pattern in schemas.items()},
            "schemaStore": {"enable": False},  # nothing is fetched
        }
        self._diagnostics: dict[str, list[dict[str, Any]]] = {}
        self._requests = 0
        self._files = 0
        self._process = subprocess.Popen(
            ["node", PROGRAM, "--stdio"],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        capabilities = {
            "workspace": {"configuration": True},
            "textDocument": {
                "publishDiagnostics": {},
                "completion": {"completionItem": {"snippetSupport": True}},
            },
        }
        opening = {"processId": None, "rootUri": None, "capabilities": capabilities}
        changed = {"settings": {"yaml": self._settings}}
        try:
            self._ask("initialize", opening)
            self._send({"method": "initialized", "params": {}})
            self._send({"method": "workspace/didChangeConfiguration", "params": changed})
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def problems(self, text: str, *, kind: str = "task") -> list[tuple[int, int, str]]:
        """Return line and column, both from 1, and words of each problem that an editor shows."""
        uri = self._open(text, kind)
        found = [
            (start["line"] + 1, start["character"] + 1, problem["message"])
            for problem in self._diagnostics[uri]
            for start in [problem["range"]["start"]]
        ]
        return sorted(found)

    def completions(self, text: str, *, kind: str = "task") -> dict[str, str]:
        """Return what an editor offers at the end of a text, with the text that it would insert."""
        uri = self._open(text, kind)
        last = text.split("\n")[-1]
        place = {"line": text.count("\n"), "character": len(last)}
        answer = self._ask_at("completion", uri, place)
        items = answer["items"] if isinstance(answer, dict) else answer
        return {item["label"]: item.get("insertText", item["label"]) for item in items}

    def hover(self, text: str, line: int, column: int, *, kind: str = "task") -> str:
        """Return what an editor shows for a place, both from 1."""
        uri = self._open(text, kind)
        answer = self._ask_at("hover", uri, {"line": line - 1, "character": column - 1})
        words: str = answer["contents"]["value"]
        return words

    def _open(self, text: str, kind: str) -> str:
        """Open a file with a text, and wait for its diagnostics. Return its address."""
        self._files += 1
        uri = f"file:///messages/{self._files}.{kind}.yaml"
        item = {"uri": uri, "languageId": "yaml", "version": 1, "text": text}
        self._send({"method": "textDocument/didOpen", "params": {"textDocument": item}})
        while uri not in self._diagnostics:
            self._handle(self._receive())
        return uri

    def _ask_at(self, what: str, uri: str, position: dict[str, int]) -> Any:
        params = {"textDocument": {"uri": uri}, "position": position}
        return self._ask(f"textDocument/{what}", params)

    def _ask(self, method: str, params: Any) -> Any:
        self._requests += 1
        self._send({"id": self._requests, "method": method, "params": params})
        while True:
            message = self._receive()
            if message.get("id") == self._requests and "method" not in message:
                assert "error" not in message, message
                return message["result"]
            self._handle(message)

    def _handle(self, message: dict[str, Any]) -> None:
        """Keep diagnostics, and answer the server's questions."""
        if message.get("method") == "textDocument/publishDiagnostics":
            params = message["params"]
            self._diagnostics[params["uri"]] = params["diagnostics"]
        elif "id" in message and "method" in message:
            result = None
            if message["method"] == "workspace/configuration":
                sections = [item.get("section") for item in message["params"]["items"]]
                result = [self._settings if name == "yaml" else None for name in sections]
            self._send({"id": message["id"], "result": result})

    def _send(self, message: dict[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self._process.stdin is not None
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        self._process.stdin.flush()

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        length = 0
        while line := self._process.stdout.readline().strip():
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        assert length, "the language server has ended"
        message: dict[str, Any] = json.loads(self._process.stdout.read(length))
        return message
