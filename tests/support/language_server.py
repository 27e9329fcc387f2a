"""Clients of the language servers that editors run for YAML and for Python files, over stdio."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class LanguageServer:
    """A running server, and the files that are open in it."""

    def __init__(self, folder: Path, program: str, settings: Mapping[str, Any]) -> None:
        """`folder` has the installed packages; `settings` has a value for each section."""
        self._settings = settings
        self._diagnostics: dict[str, list[dict[str, Any]]] = {}
        self._requests = 0
        self._files = 0
        self._process = subprocess.Popen(
            ["node", f"node_modules/{program}", "--stdio"],
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
                "hover": {"contentFormat": ["markdown", "plaintext"]},
            },
        }
        opening = {"processId": None, "rootUri": None, "capabilities": capabilities}
        try:
            self._ask("initialize", opening)
            self._send({"method": "initialized", "params": {}})
            changed = {"settings": dict(settings)}
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

    def _open(self, uri: str, language: str, text: str) -> None:
        """Open a file with a text, and wait for its diagnostics."""
        item = {"uri": uri, "languageId": language, "version": 1, "text": text}
        self._send({"method": "textDocument/didOpen", "params": {"textDocument": item}})
        while uri not in self._diagnostics:
            self._handle(self._receive())

    def _hover_at(self, uri: str, line: int, column: int) -> str:
        """Return what an editor shows for a place, both from 1."""
        answer = self._ask_at("hover", uri, {"line": line - 1, "character": column - 1})
        words: str = answer["contents"]["value"]
        return words

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
                result = [self._settings.get(name) for name in sections]
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


class YamlServer(LanguageServer):
    """yaml-language-server, whose files are those of the given schemas."""

    def __init__(self, folder: Path, schemas: dict[Path, str]) -> None:
        """`schemas` has a pattern of files for each schema."""
        settings = {
            "schemas": {schema.as_uri(): [pattern] for schema, pattern in schemas.items()},
            "schemaStore": {"enable": False},  # nothing is fetched
        }
        program = "yaml-language-server/bin/yaml-language-server"
        super().__init__(folder, program, {"yaml": settings})

    def problems(self, text: str, *, kind: str = "task") -> list[tuple[int, int, str]]:
        """Return line and column, both from 1, and words of each problem that an editor shows."""
        uri = self._open_kind(text, kind)
        found = [
            (start["line"] + 1, start["character"] + 1, problem["message"])
            for problem in self._diagnostics[uri]
            for start in [problem["range"]["start"]]
        ]
        return sorted(found)

    def completions(self, text: str, *, kind: str = "task") -> dict[str, str]:
        """Return what an editor offers at the end of a text, with the text that it would insert."""
        uri = self._open_kind(text, kind)
        last = text.split("\n")[-1]
        place = {"line": text.count("\n"), "character": len(last)}
        answer = self._ask_at("completion", uri, place)
        items = answer["items"] if isinstance(answer, dict) else answer
        return {item["label"]: item.get("insertText", item["label"]) for item in items}

    def hover(self, text: str, line: int, column: int, *, kind: str = "task") -> str:
        """Return what an editor shows for a place, both from 1."""
        return self._hover_at(self._open_kind(text, kind), line, column)

    def _open_kind(self, text: str, kind: str) -> str:
        """Open a file of a kind. Return its address."""
        self._files += 1
        uri = f"file:///messages/{self._files}.{kind}.yaml"
        self._open(uri, "yaml", text)
        return uri


class PythonServer(LanguageServer):
    """pyright, for files that import the packages of a folder."""

    def __init__(self, folder: Path, packages: Path) -> None:
        """`packages` has the packages that the environment of this Python lacks."""
        analysis = {"diagnosticMode": "openFilesOnly", "extraPaths": [str(packages)]}
        settings = {"python": {"pythonPath": sys.executable}, "python.analysis": analysis}
        super().__init__(folder, "pyright/langserver.index.js", settings)

    def hover(self, text: str, word: str) -> str:
        """Return what an editor shows for the first place of a word in a text."""
        self._files += 1
        uri = f"file:///scheduler/{self._files}.py"
        self._open(uri, "python", text)
        before = text[: text.index(word)]
        return self._hover_at(uri, before.count("\n") + 1, len(before) - before.rfind("\n"))
