"""A small Hugging Face Hub on loopback: what huggingface_hub asks of it to push and pull
a model, with large files by the LFS protocol. It refuses what the real one refuses."""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN, OWNER = 'hf_of_the_tests', 'someone'  # who it is


class FakeHub:
    """
    repositories: {'OWNER/NAME': {path: content}}.
    requests: 'METHOD /path' of each, in order.
    address: to be given as HF_ENDPOINT.
    """

    def __init__(self):
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.large: dict[str, bytes] = {}
        self.requests: list[str] = []
        self._server = ThreadingHTTPServer(('127.0.0.1', 0), _handler(self))
        self.address = f'http://127.0.0.1:{self._server.server_port}'

    def __enter__(self) -> 'FakeHub':
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: str, body: bytes) -> dict | bool | None:
        """What a request with the token makes of the repositories; None or False: there is no
        such place."""
        if request == 'POST /api/repos/create':
            asked = json.loads(body)
            name = f'{asked["organization"]}/{asked["name"]}'
            if asked['organization'] != OWNER:
                return {'status': 403}
            new = name not in self.repositories
            self.repositories.setdefault(name, {})
            return {'url': f'{self.address}/{name}', 'status': 200 if new else 409}
        if request == 'POST /api/validate-yaml':
            return {'errors': [], 'warnings': []}
        if found := re.fullmatch(r'PUT /large/(\w+)', request):
            assert hashlib.sha256(body).hexdigest() == found[1]
            self.large[found[1]] = body
            return {}
        if found := re.fullmatch(r'POST /(.+)\.git/info/lfs/objects/batch', request):
            return found[1] in self.repositories and {
                'transfer': 'basic',
                'objects': [
                    wanted | {'actions': {'upload': {'href': f'{self.address}/large/{wanted["oid"]}'}}}
                    for wanted in json.loads(body)['objects']
                ],
            }  # fmt: skip
        if found := re.fullmatch(r'POST /api/models/(.+)/preupload/main', request):
            return found[1] in self.repositories and {
                'files': [
                    {'path': file['path'], 'shouldIgnore': False, 'oid': None,
                     'uploadMode': 'lfs' if file['path'].endswith('.safetensors') else 'regular'}
                    for file in json.loads(body)['files']
                ]
            }  # fmt: skip
        if found := re.fullmatch(r'POST /api/models/(.+)/commit/main', request):
            return found[1] in self.repositories and self._commit(found[1], body)
        return None

    def _commit(self, name: str, lines: bytes) -> dict:
        for line in map(json.loads, lines.splitlines()):
            kind, value = line['key'], line['value']
            if kind == 'file':
                self.repositories[name][value['path']] = base64.b64decode(value['content'])
            elif kind == 'lfsFile':
                self.repositories[name][value['path']] = self.large[value['oid']]
            else:
                assert kind == 'header', kind
        oid = self.commit(name)
        return {'commitUrl': f'{self.address}/{name}/commit/{oid}', 'commitOid': oid}

    def commit(self, name: str) -> str:
        """Of a repository as it is; another content is another commit."""
        return hashlib.sha1(repr(sorted(self.repositories[name].items())).encode()).hexdigest()


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = 'HTTP/1.1'

        def do_GET(self) -> None:
            request = self._told()
            found = re.fullmatch(r'\w+ /([^/]+/[^/]+)/resolve/main/(.+)', request)
            if not found or found[1] not in hub.repositories:
                self._send(404, {'X-Error-Code': 'RepoNotFound'})
                return
            commit = {'X-Repo-Commit': hub.commit(found[1])}
            content = hub.repositories[found[1]].get(found[2])
            if content is None:
                self._send(404, {'X-Error-Code': 'EntryNotFound'} | commit)
            else:
                tag = {'ETag': f'"{hashlib.sha256(content).hexdigest()}"'}
                self._send(200, tag | commit, content)

        do_HEAD = do_GET  # noqa: N815

        def do_POST(self) -> None:
            request = self._told()
            body = self.rfile.read(int(self.headers['Content-Length']))
            # As in the real one, the address that large files go to is itself the permission.
            if not request.startswith('PUT') and self.headers['Authorization'] != f'Bearer {TOKEN}':
                self._send(401, {})
                return
            answer = hub.answer(request, body)
            if not isinstance(answer, dict):
                self._send(404, {'X-Error-Code': 'RepoNotFound'})
            else:
                self._send(answer.pop('status', 200), {}, json.dumps(answer).encode())

        do_PUT = do_POST  # noqa: N815

        def _told(self) -> str:
            hub.requests.append(f'{self.command} {self.path}')
            return hub.requests[-1]

        def _send(self, status: int, headers: dict[str, str], content: bytes = b'') -> None:
            self.send_response(status)
            for name, value in (headers | {'Content-Length': str(len(content))}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != 'HEAD':
                self.wfile.write(content)

        def log_message(self, format: str, *args) -> None:
            pass

    return Handler
