"""A stand-in for the Kubernetes API, made after its public reference (kubernetes.io/docs/reference): nothing of it was recorded there.

It keeps accounts, roles, bindings and config maps of one namespace, lists them by label and in pages, removes what hangs on an account
that is gone, makes tokens that end with their account or their time, and judges each request of a token by its roles, by verb, group,
resource and name. Who grants more than it holds itself is refused, as the real one does.

What this does not prove: that a real API server still answers so, how soon an end is known to all of its replicas (it remembers a good
token for ten seconds), what its admission plugins say, and how long its watches go on.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from tests.servers.recorded import RecordedApi

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMESPACE = "agents"
_PATH = re.compile(r"/(?:api/v1|apis/([a-z0-9.]+)/v1)/namespaces/([a-z-]+)/([a-z]+)(?:/([a-z0-9.-]+))?(?:/([a-z]+))?")
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_HELD = {("", "configmaps", verb) for verb in ("get", "list", "watch", "create", "update", "patch", "delete")}  # what remit may give
_HELD |= {("", "secrets", "get"), ("apps", "deployments", "patch")}


class KubernetesServer(RecordedApi):
    """One cluster. ``ahead``: seconds that its clock is before ours. ``extends``: makes a year of every token. ``page``: objects at a time.
    ``fails_at``: a request it refuses. ``lacks``: what remit may not do.
    """

    def __init__(self) -> None:
        self.secret = "root-" + secrets.token_hex(8)
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.tokens: dict[str, tuple[str, float]] = {}  # the account's uid, and when it ends
        self.held = set(_HELD)
        self.ahead, self.extends, self.broken, self.fails_at, self.page, self.lacks = 0.0, False, 0, "", 500, ""
        super().__init__()

    def forget(self) -> None:
        self.objects, self.tokens = {("configmaps", name): {"metadata": {"name": name}} for name in ("orders", "salaries")}, {}
        self.heard.clear()
        self.held = set(_HELD)
        self.ahead, self.extends, self.broken, self.fails_at, self.page, self.lacks = 0.0, False, 0, "", 500, ""

    def names(self) -> set[str]:
        """Of all that is not a config map."""
        return {name for kind, name in self.objects if kind != "configmaps"}

    def answer(self, method: str, path: str, token: str, body: Any) -> tuple[int, Any]:
        where, query = urlsplit(path).path, parse_qs(urlsplit(path).query)
        if self.broken:
            return _told(self.broken, "InternalError")
        if token != self.secret and self._account(token) is None:
            return _told(401, "Unauthorized")
        if where == "/version":
            return 200, {"major": "1", "minor": "31", "gitVersion": "v1.31.0"}
        if where.endswith("/selfsubjectaccessreviews"):
            asked = body["spec"]["resourceAttributes"]
            assert asked["namespace"] == NAMESPACE
            return 201, {"kind": "SelfSubjectAccessReview", "status": {"allowed": self._root_may(asked)}}
        found = _PATH.fullmatch(where)
        if found is None or found[2] != NAMESPACE:
            return _told(404, "NotFound")
        group, resource, name, more = found[1] or "", found[3], found[4] or "", found[5] or ""
        if self.fails_at and f"{method} {resource}{f'/{more}' if more else ''}" == self.fails_at:
            return _told(403, "Forbidden")
        verb = _VERBS.get(method) or ("get" if name else "list")
        if token != self.secret and not self._may(token, group, resource, verb, name):
            return _told(403, "Forbidden")
        if more == "token":
            return self._token(name, body)
        return self._object(verb, resource, name, body, query)

    def _root_may(self, asked: dict[str, str]) -> bool:
        if asked["group"] == "rbac.authorization.k8s.io" or asked["resource"] == "serviceaccounts":
            return asked["verb"] not in {"escalate", "bind"} and f"{asked['verb']} {asked['resource']}" != self.lacks
        resource = asked["resource"] + (f"/{asked['subresource']}" if asked["subresource"] else "")
        return (asked["group"], resource, asked["verb"]) in self.held

    def _object(self, verb: str, resource: str, name: str, body: Any, query: dict[str, list[str]]) -> tuple[int, Any]:
        if verb == "list":
            label = query.get("labelSelector", [""])[0]
            kind = sorted((key, one) for key, one in self.objects.items() if key[0] == resource)
            there = [one for _, one in kind if not label or label in one["metadata"].get("labels", {})]
            first, limit = int(query.get("continue", ["0"])[0]), min(self.page, int(query.get("limit", ["500"])[0]))
            last = first + limit
            return 200, {"kind": "List", "metadata": {"continue": str(last)} if last < len(there) else {}, "items": there[first:last]}
        if verb == "create":
            name = body["metadata"]["name"]
            if (resource, name) in self.objects:
                return _told(409, "AlreadyExists")
            if resource == "roles" and not all(self._holds(rule) for rule in body["rules"]):
                return _told(403, "Forbidden")
            made = self.objects[resource, name] = body | {
                "metadata": body["metadata"] | {"uid": secrets.token_hex(8), "namespace": NAMESPACE}
            }
            return 201, made
        if (resource, name) not in self.objects:
            return _told(404, "NotFound")
        if verb == "delete":
            gone = self.objects.pop((resource, name))
            for key, one in list(self.objects.items()):
                if any(owner["uid"] == gone["metadata"].get("uid", "") for owner in one["metadata"].get("ownerReferences", ())):
                    del self.objects[key]
            return 200, {"kind": "Status", "status": "Success"}
        return 200, self.objects[resource, name]

    def _token(self, name: str, body: Any) -> tuple[int, Any]:
        account = self.objects.get(("serviceaccounts", name))
        if account is None:
            return _told(404, "NotFound")
        seconds = body["spec"]["expirationSeconds"]
        if body["kind"] != "TokenRequest" or seconds < 600:
            return _told(422, "Invalid")
        if self.extends:
            seconds = 365 * 86_400
        token, ends = "eyJ." + secrets.token_hex(24), time.time() + self.ahead + seconds
        self.tokens[token] = account["metadata"]["uid"], ends
        status = {"token": token, "expirationTimestamp": f"{datetime.fromtimestamp(ends, UTC):%Y-%m-%dT%H:%M:%SZ}"}
        return 201, {"kind": "TokenRequest", "spec": body["spec"], "status": status}

    def _holds(self, rule: dict[str, Any]) -> bool:
        return wanted(rule) <= self.held

    def _account(self, token: str) -> str | None:
        uid, ends = self.tokens.get(token, ("", 0.0))
        named = [name for (kind, name), one in self.objects.items() if kind == "serviceaccounts" and one["metadata"]["uid"] == uid]
        return named[0] if named and ends > time.time() + self.ahead else None

    def _may(self, token: str, group: str, resource: str, verb: str, name: str) -> bool:
        account = self._account(token)
        for (kind, _), binding in self.objects.items():
            if kind == "rolebindings" and any(one["name"] == account and one["namespace"] == NAMESPACE for one in binding["subjects"]):
                for rule in self.objects.get(("roles", binding["roleRef"]["name"]), {"rules": []})["rules"]:
                    named = "resourceNames" not in rule or name in rule["resourceNames"]
                    if group in rule["apiGroups"] and resource in rule["resources"] and verb in rule["verbs"] and named:
                        return True
        return False


def wanted(rule: dict[str, Any]) -> set[tuple[str, str, str]]:
    """What a rule gives: group, resource, verb."""
    return {(group, resource, verb) for group in rule["apiGroups"] for resource in rule["resources"] for verb in rule["verbs"]}


def _told(status: int, reason: str) -> tuple[int, Any]:
    return status, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": reason, "code": status}


@contextlib.contextmanager
def kubernetes_server() -> Iterator[KubernetesServer]:
    """Such a cluster, with the config maps ``orders`` and ``salaries``."""
    server = KubernetesServer()
    try:
        yield server
    finally:
        server.stop()
