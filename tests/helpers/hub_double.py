"""A test double of the hub: the part of its file API that huggingface_hub asks, over HTTP on this machine."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote, urlsplit


class Hub:
    """Repositories by id, each a mapping of commit to files; `heads` gives the commit that each branch names."""

    def __init__(self) -> None:
        self.commits: dict[str, dict[str, dict[str, bytes]]] = {}
        self.heads: dict[str, dict[str, str]] = {}
        self.asked: list[str] = []
        self.url = ""

    def push(self, repository: str, files: dict[str, bytes], branch: str = "main") -> str:
        """Commit files and return the hash."""
        content = b"".join(name.encode() + data for name, data in sorted(files.items()))
        commit = hashlib.sha1(content).hexdigest()
        self.commits.setdefault(repository, {})[commit] = dict(files)
        self.heads.setdefault(repository, {})[branch] = commit
        return commit

    def answer(self, path: str) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers of a GET request."""
        parts = unquote(urlsplit(path).path).strip("/").split("/")
        if len(parts) < 4:
            return 404, b"", {}  # no repository's
        if parts[0] == "api":  # api/models/owner/name[/revision/main | /tree/commit]
            repository, rest = f"{parts[1]}/{parts[2]}/{parts[3]}", parts[4:]
            revision = rest[1] if rest else "main"
            files, commit = self._at(repository, revision)
            if files is None:
                return self._missing(repository)
            if rest and rest[0] == "tree":
                listed = [
                    {"type": "file", "path": n, "size": len(d), "oid": hashlib.sha1(d).hexdigest()}
                    for n, d in files.items()
                ]
                return 200, json.dumps(listed).encode(), {"Content-Type": "application/json"}
            info = {"id": "/".join(parts[2:4]), "sha": commit, "siblings": [{"rfilename": n} for n in files]}
            return 200, json.dumps(info).encode(), {"Content-Type": "application/json"}
        kind, parts = ("datasets", parts[1:]) if parts[0] == "datasets" else ("models", parts)
        owner, name, _, revision, *file = parts  # [datasets/]owner/name/resolve/commit/file
        files, commit = self._at(f"{kind}/{owner}/{name}", revision)
        data = None if files is None else files.get("/".join(file))
        if data is None:
            return 404, b"", {"X-Error-Code": "EntryNotFound"}
        return 200, data, {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": commit}

    def _at(self, repository: str, revision: str) -> tuple[dict[str, bytes] | None, str]:
        commit = self.heads.get(repository, {}).get(revision, revision)
        return self.commits.get(repository, {}).get(commit), commit

    def _missing(self, repository: str) -> tuple[int, bytes, dict[str, str]]:
        return 404, b"", {"X-Error-Code": "RevisionNotFound" if repository in self.commits else "RepoNotFound"}


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve it on a free port, at `hub.url`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hub.asked.append(f"{self.command} {self.path}")
            status, body, headers = hub.answer(self.path)
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(body))}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
