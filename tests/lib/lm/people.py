# SPDX-License-Identifier: LGPL-2.1-or-later
"""The manager's TCP address as clients of other machines see it: TLS, sign-in, tokens, cookies."""

import base64
import http.client
import json
import ssl
import urllib.parse

from .util import PATIENCE

API = "/ovirt-engine/api"
PASSWORD = "correct horse & battery + 100%"


class Front:
    """Requests over TLS, with the certificate verified. Each on a connection of its own."""

    def __init__(self, manager):
        self.manager = manager

    @property
    def port(self):
        return self.manager.port

    @property
    def ca(self):
        return self.manager.directory / "state" / "ca.pem"

    @property
    def address(self):
        return f"https://127.0.0.1:{self.port}"

    def __call__(self, method, path, body=None, timeout=30, **headers):
        """Returns (status, headers with lower-case names, body as text). Header names are written
        with _ for -. A dict as body is sent as JSON."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if isinstance(body, dict):
            body = json.dumps(body)
            headers.setdefault("Content-Type", "application/json")
        headers.setdefault("Accept", "application/json")
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout * PATIENCE,
                                                 context=ssl.create_default_context(cafile=str(self.ca)))
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read().decode()
        finally:
            connection.close()

    def sso(self, user, password=PASSWORD, **form):
        """As oVirt's Python SDK asks for a token; (status, document)."""
        form = {"grant_type": "password", "scope": "ovirt-app-api", "username": user, "password": password, **form}
        status, headers, text = self("POST", "/ovirt-engine/sso/oauth/token", urllib.parse.urlencode(form),
                                     Content_Type="application/x-www-form-urlencoded", User_Agent="PythonSDK/4.6.3")
        assert headers["content-type"].startswith("application/json")
        return status, json.loads(text)

    def token(self, user, password=PASSWORD):
        status, document = self.sso(user, password)
        assert status == 200, document
        return {"Authorization": f"Bearer {document['access_token']}"}

    def session(self, user, password=PASSWORD):
        """The page's cookie, as a browser sends it back."""
        status, headers, text = self("POST", "/session", {"username": user, "password": password})
        assert status == 200, text
        return {"Cookie": headers["set-cookie"].split(";")[0]}


def basic(user, password=PASSWORD):
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
