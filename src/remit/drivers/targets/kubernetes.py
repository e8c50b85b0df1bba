"""Kubernetes: a lease is a service account of its own, a role for it, their binding, and a token that the API makes for it (TokenRequest).

Rules
* All of them are in the one namespace of the target, bear the mark as their name and label, and hang on the account: whoever deletes that
  account ends the token, and the cluster removes the rest. An account makes what is in the middle of being made findable by its mark.
* Rules name one resource each. What makes identities or lends rights is never given: accounts, tokens, roles, writing secrets.
* A token lives for ten minutes at the least (``TargetKind.late_seconds``), and no longer than asked: what the API gives is looked at.
* Revocation: the binding first, which ends all rights at once, then the account and the role. A watch or an ``exec`` that is open is not
  asked again by the API server and goes on until it ends: nothing here can cut it (docs/targets.md).

aiohttp and six kinds of requests: the generated clients bring thousands of classes for them. Left out: cluster roles, other namespaces,
client certificates. Kubernetes API v1, rbac.authorization.k8s.io/v1, authentication.k8s.io/v1.
"""

from __future__ import annotations

import base64
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import msgspec

from remit.drivers.targets.base import Finding, Minted, Setting, TargetKind
from remit.drivers.targets.http import HttpClient, check_authorities
from remit.errors import Mistake, Outage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from remit.drivers.targets.base import Scope, TargetSettings
    from remit.drivers.targets.http import Answered

_TOKEN_SECONDS_MIN = 600
_EXTENDED_SECONDS = 3_607  # what the API server takes for its own request and makes a year of (service-account-extend-token-expiration)
_SKEW = timedelta(seconds=60)
_ANSWER_BYTES_MAX = 8 * 1024 * 1024
_PAGE, _PAGES_MAX = 500, 100
_RULES_MAX, _NAMES_MAX = 20, 50
_LABEL = "remit-mark"
_CORE, _RBAC = "/api/v1", "/apis/rbac.authorization.k8s.io/v1"
_PLACES = (f"{_RBAC}|rolebindings", f"{_CORE}|serviceaccounts", f"{_RBAC}|roles")  # in the order in which they go
_ALLOW = ("get", "list", "watch", "create", "update", "patch", "delete")
_WRITES = frozenset({"create", "update", "patch"})
_IDENTITIES = frozenset({"authentication.k8s.io", "certificates.k8s.io", "rbac.authorization.k8s.io"})
_REFUSED = frozenset({400, 403, 404, 409, 422})
_NAMESPACE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_GROUP = re.compile(r"(?:[a-z0-9](?:[a-z0-9.-]{0,250}[a-z0-9])?)?", re.ASCII)
_RESOURCE = re.compile(r"[a-z][a-z0-9]{0,62}(?:/[a-z][a-z0-9]{0,62})?", re.ASCII)
_OBJECT = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?", re.ASCII)
_EXAMPLE = 'rules = [{ group = "apps", resource = "deployments", names = ["{service}"], allow = ["get", "patch"] }]'


class KubernetesTarget:
    """See ``drivers/targets/base.py`` for the duties."""

    def __init__(self, settings: TargetSettings, secret: Callable[[], Awaitable[str]]) -> None:
        values = settings.values
        self._name, self._secret = settings.name, secret
        self._url, self._namespace = str(values["url"]).rstrip("/"), str(values["namespace"])
        self._audience, self._ca_file = str(values["audience"]), str(values["ca_file"])
        self._http = HttpClient(settings.name, connections=settings.connections, ca_file=self._ca_file, bytes_max=_ANSWER_BYTES_MAX)

    async def mint(self, mark: str, scope: Scope, expires_at: datetime) -> Minted:
        """See Target."""
        rules = _read_scope(scope)
        account = await self._make(_CORE, "serviceaccounts", self._described(mark) | {"automountServiceAccountToken": False})
        try:
            try:
                return await self._completed(mark, rules, account, expires_at)
            except Mistake:
                await self._removed(mark)
                raise
        except Outage as error:
            raise Outage(error.message, code=error.code) from None  # the account was made, whatever could be sent afterwards

    async def revoke(self, mark: str, minted: Minted | None = None) -> bool:
        """See Target."""
        del minted
        return await self._removed(mark)

    async def list_ours(self, prefix: str) -> frozenset[str]:
        """See Target."""
        found: set[str] = set()
        for place in _PLACES:
            group, _, resource = place.partition("|")
            after = ""
            for _ in range(_PAGES_MAX):
                query = f"?labelSelector={_LABEL}&limit={_PAGE}" + (f"&continue={quote(after, safe='')}" if after else "")
                data = (await self._ask("GET", self._path(group, resource) + query, good=(200,))).data
                try:
                    found |= {str(one["metadata"]["labels"][_LABEL]) for one in data["items"]}
                    after = data["metadata"].get("continue") or ""
                except (KeyError, TypeError, AttributeError):
                    raise self._odd() from None
                if not after:
                    break
            else:
                raise Outage(f"target {self._name} lists without an end", code="target_unavailable")
        return frozenset(mark for mark in found if mark.startswith(prefix))

    async def check(self) -> tuple[Finding, ...]:
        """See Target."""
        missing: list[str] = []
        try:
            version = (await self._ask("GET", "/version", good=(200,))).data["gitVersion"]
            for resource in ("serviceaccounts", "roles", "rolebindings"):
                missing += [f"{verb} {resource}" for verb in ("create", "delete", "list") if not await self._may(verb, resource)]
            if not await self._may("create", "serviceaccounts", "token"):
                missing.append("create serviceaccounts/token")
        except (Mistake, Outage) as error:
            return (Finding(good=False, text=f"{error.message}{f': {error.hint}' if error.hint else ''}"),)
        except (KeyError, TypeError):
            return (Finding(good=False, text=f"what answers at {self._url} is no Kubernetes API"),)
        if missing:
            text = f"remit's account may not do in namespace {self._namespace}: {', '.join(missing)}. docs/targets.md has its role"
            return (Finding(good=False, text=text),)
        text = "what is open when a lease ends (a watch, an exec) goes on: the API server does not ask again"
        return (Finding(good=True, text=f"Kubernetes {version}, namespace {self._namespace}"), Finding(good=True, text=text))

    async def may_give(self, scope: Scope) -> tuple[Finding, ...]:
        """See TellsWhatItMayGive. Kubernetes lets an account give what it holds, or all to who may ``escalate`` (RBAC, "Privilege
        escalation prevention").
        """
        rules = [_rule(entry) for entry in scope.get("rules", [])]
        try:
            if rules and await self._may("escalate", "roles") and await self._may("bind", "roles"):
                return ()
            found = [one for rule in rules for one in await self._lacking(rule)]
        except (KeyError, TypeError):
            raise self._odd() from None
        return tuple(dict.fromkeys(found))

    async def close(self) -> None:
        """See Target."""
        await self._http.close()

    async def _completed(self, mark: str, rules: list[dict[str, Any]], account: Any, expires_at: datetime) -> Minted:
        """An account as a credential. Raises Mistake, Outage."""
        name = _name(mark)
        try:
            owner = {"apiVersion": "v1", "kind": "ServiceAccount", "name": name, "uid": str(account["metadata"]["uid"])}
        except (KeyError, TypeError):
            raise self._odd() from None
        described = self._described(mark, owner)
        await self._make(_RBAC, "roles", described | {"rules": rules})
        subject = {"kind": "ServiceAccount", "name": name, "namespace": self._namespace}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
        await self._make(_RBAC, "rolebindings", described | {"subjects": [subject], "roleRef": role})
        seconds = max(_TOKEN_SECONDS_MIN, int((expires_at - datetime.now(UTC)).total_seconds()) + 1)
        if seconds == _EXTENDED_SECONDS:
            seconds -= 1
        spec = {"audiences": [self._audience] if self._audience else [], "expirationSeconds": seconds}
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        given = (await self._ask("POST", self._path(_CORE, "serviceaccounts", name) + "/token", request, good=(201,))).data
        try:
            token, ends = str(given["status"]["token"]), datetime.fromisoformat(given["status"]["expirationTimestamp"])
            too_long = ends > datetime.now(UTC) + timedelta(seconds=seconds) + _SKEW
        except (KeyError, TypeError, ValueError):
            raise self._odd() from None
        if too_long or not token:
            hint = "service-account-extend-token-expiration of the API server, and its clock"
            raise Mistake(f"target {self._name} gives a token for longer than was asked for", code="target_refused", hint=hint)
        parts = {"token": token, "url": self._url, "namespace": self._namespace, "kubeconfig": self._kubeconfig(name, token)}
        return Minted(parts=parts, secret=frozenset({"token", "kubeconfig"}))

    async def _removed(self, mark: str) -> bool:
        there = False
        for place in _PLACES:
            group, _, resource = place.partition("|")
            answer = await self._ask("DELETE", self._path(group, resource, _name(mark)), good=(200, 202, 404))
            there |= answer.status != 404
        return there

    async def _make(self, group: str, resource: str, described: Mapping[str, Any]) -> Any:
        return (await self._ask("POST", self._path(group, resource), described, good=(201,))).data

    async def _lacking(self, rule: Mapping[str, Any]) -> list[Finding]:
        (group,), (resource,), names = rule["apiGroups"], rule["resources"], rule.get("resourceNames", [""])
        kind, _, part = resource.partition("/")
        verbs = [verb for verb in rule["verbs"] if not all([await self._may(verb, kind, part, group=group, name=name) for name in names])]
        if not verbs:
            return []
        of = f" {', '.join(names)}" if names != [""] else ""
        what = f"{resource}{of}{f' of {group}' if group else ''} in namespace {self._namespace}"
        text = f"remit's account may not hand on {', '.join(verbs)} on {what}: it does not hold that itself. A rule for its role"
        return [Finding(good=False, text=text, mend=json.dumps({**rule, "verbs": verbs}))]

    async def _may(self, verb: str, resource: str, subresource: str = "", *, group: str | None = None, name: str = "") -> bool:
        if group is None:
            group = "" if resource == "serviceaccounts" else "rbac.authorization.k8s.io"
        asked = {"namespace": self._namespace, "verb": verb, "group": group, "resource": resource, "subresource": subresource}
        if name:
            asked["name"] = name
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": asked}}
        answer = await self._ask("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review, good=(201,))
        return answer.data["status"]["allowed"] is True

    async def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None, *, good: tuple[int, ...]) -> Answered:
        headers = {"Authorization": f"Bearer {await self._secret()}", "User-Agent": "remit"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        answer = await self._http.ask(method, self._url + path, headers, msgspec.json.encode(body) if body is not None else None)
        if answer.status in good:
            return answer
        if answer.status == 401:
            raise Outage(f"target {self._name} does not let remit in", code="target_refused", unsent=True)
        if answer.status in _REFUSED:
            hint = "remit doctor; remit's account has to hold what it gives"
            raise Mistake(f"target {self._name} refuses this ({answer.status})", code="target_refused", hint=hint)
        raise Outage(f"target {self._name} cannot do it now ({answer.status})", code="target_unavailable")

    def _path(self, group: str, resource: str, name: str = "") -> str:
        return f"{group}/namespaces/{self._namespace}/{resource}" + (f"/{name}" if name else "")

    def _described(self, mark: str, owner: Mapping[str, str] | None = None) -> dict[str, Any]:
        metadata: dict[str, Any] = {"name": _name(mark), "labels": {_LABEL: mark, "app.kubernetes.io/managed-by": "remit"}}
        return {"metadata": metadata | ({"ownerReferences": [dict(owner)]} if owner else {})}

    def _kubeconfig(self, name: str, token: str) -> str:
        """JSON, which is YAML."""
        cluster: dict[str, str] = {"server": self._url}
        if self._ca_file:
            cluster["certificate-authority-data"] = base64.b64encode(Path(self._ca_file).read_bytes()).decode()
        context = {"cluster": "remit", "namespace": self._namespace, "user": name}
        told = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "remit", "cluster": cluster}],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [{"name": "remit", "context": context}],
            "current-context": "remit",
        }
        return json.dumps(told)

    def _odd(self) -> Outage:
        return Outage(f"target {self._name} does not answer as Kubernetes does", code="target_unavailable")


def _name(mark: str) -> str:
    """A mark as the name of an object: ``_`` is not allowed there."""
    return mark.replace("_", "-")


def _read_scope(scope: Scope) -> list[dict[str, Any]]:
    """Rules of a role. Raises Mistake."""
    entries = scope.get("rules")
    if set(scope) != {"rules"} or not isinstance(entries, list) or not 0 < len(entries) <= _RULES_MAX:
        raise _wrong(f"a scope has rules, a list of 1 to {_RULES_MAX} tables")
    return [_rule(entry) for entry in entries]


def _rule(entry: Any) -> dict[str, Any]:
    if not isinstance(entry, dict) or not {"resource", "allow"} <= set(entry) <= {"group", "resource", "names", "allow"}:
        raise _wrong("a rule has: allow, resource, and where it is needed group, names")
    group, resource, allow = entry.get("group", ""), entry["resource"], entry["allow"]
    if not isinstance(group, str) or not _GROUP.fullmatch(group) or not isinstance(resource, str) or not _RESOURCE.fullmatch(resource):
        raise _wrong("group and resource are names of one API group and one resource, like apps and deployments")
    if not isinstance(allow, list) or not allow or not all(isinstance(word, str) and word in _ALLOW for word in allow):
        raise _wrong(f"allow is a list of: {', '.join(_ALLOW)}")
    if group in _IDENTITIES or (not group and resource.partition("/")[0] == "serviceaccounts"):
        raise _wrong(f"{resource} may make or lend identities, which would outlive the task")
    if not group and resource == "secrets" and _WRITES & set(allow):
        raise _wrong("who writes secrets makes tokens of any account")
    rule: dict[str, Any] = {"apiGroups": [group], "resources": [resource], "verbs": list(dict.fromkeys(allow))}
    if "names" in entry:
        names = entry["names"]
        if not isinstance(names, list) or not 0 < len(names) <= _NAMES_MAX:
            raise _wrong(f"names is a list of 1 to {_NAMES_MAX} names of objects; left out, it means all in the namespace")
        if not all(isinstance(name, str) and _OBJECT.fullmatch(name) for name in names):
            raise _wrong("a name of an object has lower-case letters, digits, - and .")
        if "create" in allow:
            raise _wrong("create goes without names: Kubernetes does not look at them then")
        rule["resourceNames"] = list(dict.fromkeys(names))
    return rule


def _wrong(what: str) -> Mistake:
    return Mistake(what, code="lease_scope", hint=_EXAMPLE)


def _check_settings(values: Mapping[str, Any]) -> None:
    """An API server, a namespace. Raises Mistake."""
    if not _NAMESPACE.fullmatch(values["namespace"]):
        raise Mistake("namespace is no name of a namespace", code="target", hint='namespace = "agents"')
    if not values["audience"].isprintable() or len(values["audience"]) > 256:
        raise Mistake("audience is no audience of a token", code="target", hint="leave it out for the API server's own")
    try:
        known = urlsplit(values["url"])
        good = known.hostname and known.port != 0 and not known.username and not known.query and not known.fragment
    except ValueError:
        good = False
    if not good or (known.scheme != "https" and not (known.scheme == "http" and known.hostname in {"127.0.0.1", "::1", "localhost"})):
        raise Mistake("url is no https address (http on this machine)", code="target", hint='url = "https://kubernetes.internal:6443"')
    check_authorities(values["ca_file"])


KUBERNETES = TargetKind(
    name="kubernetes",
    settings={
        "url": Setting(kind=str, hint='url = "https://kubernetes.internal:6443"'),
        "namespace": Setting(kind=str, hint='namespace = "agents"'),
        "audience": Setting(kind=str, default=""),
        "ca_file": Setting(kind=str, default=""),
    },
    blank={"token": "", "url": "", "namespace": "", "kubeconfig": ""},
    check_settings=_check_settings,
    check_scope=lambda scope: (_read_scope(scope), None)[1],
    open=KubernetesTarget,
    late_seconds=_TOKEN_SECONDS_MIN,
    divisible=frozenset({"rules"}),
)
