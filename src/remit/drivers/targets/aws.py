"""AWS: a lease is a session of one role (STS AssumeRole), with a session policy made from the scope.

Rules
* A session does what the role may **and** its session policy allows. What an input names is no pattern: ``*``, ``?`` and ``$`` are
  refused. Actions that make or lend identities are never given: what they made would outlive the task.
* A session of AWS lives for fifteen minutes at the least, so each statement of its policy also has the end of the lease as a
  condition: the session is still there afterwards, and may do nothing.
* STS knows no way to end one session, and keeps no list (``TargetKind.lists``). Revocation is an inline policy of the role that denies
  everything to sessions of this name, until the longest session is over; those that are over are removed with later revocations.
* Addresses, credentials and retries are only those given here: botocore's files, variables and metadata services are not asked.

botocore in threads; an extra of the package, so it is imported where it is used. Left out: chains of roles, other accounts, session tags.
IAM, JSON policy elements and "Revoking IAM role temporary security credentials"; STS, AssumeRole.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from remit.drivers.targets.base import MARK_PREFIX, Finding, Minted, Setting, TargetKind
from remit.errors import Mistake, Outage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from remit.drivers.targets.base import Scope, TargetSettings

T = TypeVar("T")
_CONNECT_SECONDS, _ANSWER_SECONDS = 5, 8
_SESSION_SECONDS_MIN, _SESSION_SECONDS_MAX = 900, 43_200
_SLACK_SECONDS = 120  # a mint that is under way while its mark is revoked, and clocks
_POLICY_CHARACTERS_MAX = 2_048  # of a session policy, by AWS
_DENIALS_FEW = 40  # about sixty fit into the inline policies of a role, 10,240 characters in all
_PAGES_MAX = 10
_REMOVED_MAX = 5
_ENTRIES_MAX = 20
_TEXT_BYTES_MAX = 512
_CLOCK_SECONDS_MAX = 60.0
_ROLE = re.compile(r"arn:(aws|aws-cn|aws-us-gov):iam::\d{12}:role/(?:[\w+=,.@-]+/)*([\w+=,.@-]{1,64})", re.ASCII)
_BUCKET = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?")
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")
_ACTION = re.compile(r"([a-z0-9-]{1,40}):[A-Za-z0-9]{1,80}")
_DENIAL = re.compile(rf"({MARK_PREFIX}[a-z2-7]+)_(\d{{1,12}})")
_OBJECT_WORDS = {"read": "s3:GetObject", "write": "s3:PutObject", "delete": "s3:DeleteObject"}
_WORDS = (*_OBJECT_WORDS, "list")
_IDENTITIES = frozenset({"account", "iam", "identitystore", "organizations", "rolesanywhere", "signin", "sso", "sso-admin", "sts"})
_NOT_LET_IN = frozenset({"InvalidClientTokenId", "SignatureDoesNotMatch", "UnrecognizedClientException", "InvalidAccessKeyId"})
_REFUSED = frozenset({"AccessDenied", "AccessDeniedException", "MalformedPolicyDocument", "PackedPolicyTooLarge", "ValidationError"})
_REFUSED |= {"NoSuchEntity", "NotAuthorized"}
_EXAMPLE = 'buckets = [{ bucket = "reports", prefix = "{customer}/", allow = ["read"] }]'
_ROLE_HINT = 'role = "arn:aws:iam::123456789012:role/agents"'
_EXTRA_HINT = "pip install 'remit[aws]'"


class AwsTarget:
    """See ``drivers/targets/base.py`` for the duties."""

    def __init__(self, settings: TargetSettings, secret: Callable[[], Awaitable[str]]) -> None:
        values = settings.values
        self._name, self._secret = settings.name, secret
        self._role, self._region, self._endpoint = str(values["role"]), str(values["region"]), str(values["endpoint"])
        self._session_seconds = max(_SESSION_SECONDS_MIN, int(values["session_seconds"]))
        found = _ROLE.fullmatch(self._role)
        assert found is not None, "check_settings has looked"
        self._partition, self._role_name = found[1], found[2]
        self._connections = settings.connections
        self._threads = ThreadPoolExecutor(settings.connections, thread_name_prefix=f"target-{settings.name}")
        self._clients: tuple[str, Any, Any] | None = None

    async def mint(self, mark: str, scope: Scope, expires_at: datetime) -> Minted:
        """See Target."""
        lasts = int((expires_at - datetime.now(UTC)).total_seconds()) + 1
        if lasts > self._session_seconds:
            hint = "session_seconds of the target, up to the longest session of the role; or a deadline that is nearer"
            raise Mistake(f"target {self._name} has sessions of {self._session_seconds} s at most", code="target_refused", hint=hint)
        policy = _session_policy(_read_scope(scope, self._partition), expires_at)
        asked = {
            "RoleArn": self._role,
            "RoleSessionName": mark,
            "Policy": policy,
            "DurationSeconds": max(_SESSION_SECONDS_MIN, lasts),
        }
        answer = await self._work(lambda sts, _: sts.assume_role(**asked))
        given = answer["Credentials"]
        parts = {
            "access_key_id": str(given["AccessKeyId"]),
            "secret_access_key": str(given["SecretAccessKey"]),
            "session_token": str(given["SessionToken"]),
            "region": self._region,
        }
        return Minted(parts=parts, secret=frozenset({"secret_access_key", "session_token"}))

    async def revoke(self, mark: str, minted: Minted | None = None) -> bool:
        """See Target. Whether there was anything nobody can tell: true when it was not denied before."""
        del minted
        return await self._work(lambda _, iam: self._deny(iam, mark))

    async def list_ours(self, prefix: str) -> frozenset[str]:
        """Nothing: see TargetKind.lists. Raises Outage where it is away."""
        del prefix
        try:
            await self._work(lambda _, iam: self._denials(iam))
        except Mistake as error:
            raise Outage(error.message, code="target_unavailable") from None
        return frozenset()

    async def check(self) -> tuple[Finding, ...]:
        """See Target."""
        try:
            return await self._work(self._findings)
        except (Mistake, Outage) as error:
            return (Finding(good=False, text=f"{error.message}{f': {error.hint}' if isinstance(error, Mistake) else ''}"),)

    async def may_give(self, scope: Scope) -> tuple[Finding, ...]:
        """See TellsWhatItMayGive. A session has what its role has: IAM is asked what the role's own policies say."""
        buckets, actions = scope.get("buckets", []), scope.get("actions", [])
        statements = [one for entry in buckets for one in _bucket(entry, self._partition)] + [_action(entry) for entry in actions]
        try:
            return await self._work(lambda _, iam: tuple(one for statement in statements for one in self._lacking(iam, statement)))
        except Mistake as error:
            right = {"Effect": "Allow", "Action": "iam:SimulatePrincipalPolicy", "Resource": self._role}
            text = f"what role {self._role_name} may do is not told to remit ({error.message}). A statement for remit's user"
            return (Finding(good=False, known=False, text=text, mend=_policy([right])),)

    async def close(self) -> None:
        """See Target."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        held, self._clients = self._clients, None
        for client in held[1:] if held else ():
            client.close()

    def _lacking(self, iam: Any, statement: dict[str, Any]) -> list[Finding]:
        resources = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
        allowed = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        asked: dict[str, Any] = {"PolicySourceArn": self._role, "ActionNames": allowed, "ResourceArns": resources}
        for name, value in statement.get("Condition", {}).get("StringLike", {}).items():
            asked |= {"ContextEntries": [{"ContextKeyName": name, "ContextKeyType": "string", "ContextKeyValues": [value]}]}
        lacks: dict[str, None] = {}
        for _ in range(_PAGES_MAX):
            answer = iam.simulate_principal_policy(**asked)
            lacks |= dict.fromkeys(one["EvalActionName"] for one in answer["EvaluationResults"] if one["EvalDecision"] != "allowed")
            if not answer.get("IsTruncated"):
                break
            asked["Marker"] = answer["Marker"]
        if not lacks:
            return []
        text = f"role {self._role_name} may not do {', '.join(lacks)} on {', '.join(resources)}. A statement for a policy of the role"
        return [Finding(good=False, text=text, mend=json.dumps({"Effect": "Allow", "Action": list(lacks), "Resource": resources}))]

    def _deny(self, iam: Any, mark: str) -> bool:
        denials, now = self._denials(iam), int(time.time())
        known = any(name.startswith(f"{mark}_") and ends > now for name, ends in denials.items())
        if not known:
            ends = now + self._session_seconds + _SLACK_SECONDS
            sessions = {"StringLike": {"aws:userid": f"*:{mark}"}}
            denial = {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": sessions}
            iam.put_role_policy(RoleName=self._role_name, PolicyName=f"{mark}_{ends}", PolicyDocument=_policy([denial]))
        over = sorted(name for name, ends in denials.items() if ends < now)
        for name in over[:_REMOVED_MAX]:
            _remove(iam, self._role_name, name)
        return not known

    def _denials(self, iam: Any) -> dict[str, int]:
        """Inline policies of ours, and when each has nothing to deny any more (seconds since 1970)."""
        found: dict[str, int] = {}
        more: dict[str, str] = {}
        for _ in range(_PAGES_MAX):
            answer = iam.list_role_policies(RoleName=self._role_name, **more)
            for name in answer["PolicyNames"]:
                if denial := _DENIAL.fullmatch(name):
                    found[name] = int(denial[2])
            if not answer.get("IsTruncated"):
                return found
            more = {"Marker": answer["Marker"]}
        raise Outage(f"target {self._name} lists its policies without an end", code="target_unavailable")

    def _findings(self, sts: Any, iam: Any) -> tuple[Finding, ...]:
        me = sts.get_caller_identity()
        found = [
            Finding(good=True, text=f"AWS, as {me['Arn']}"),
            Finding(good=True, text="AWS keeps no list of sessions: what this installation's keys do not know ends by its own time"),
        ]
        there = parsedate_to_datetime(me["ResponseMetadata"]["HTTPHeaders"]["date"])
        skew = abs((datetime.now(UTC) - there).total_seconds())
        if skew > _CLOCK_SECONDS_MAX:
            found.append(Finding(good=False, text=f"its clock is {skew:.0f} s from ours: leases would end too early or too late there"))
        nothing = _policy([{"Effect": "Deny", "Action": "*", "Resource": "*"}])
        sts.assume_role(RoleArn=self._role, RoleSessionName="remit-doctor", Policy=nothing, DurationSeconds=_SESSION_SECONDS_MIN)
        denials = len(self._denials(iam))
        if denials > _DENIALS_FEW:
            text = f"{denials} revoked sessions are denied on the role, and about sixty fit: more roles, or a shorter session_seconds"
            found.append(Finding(good=False, text=text))
        return tuple(found)

    async def _work(self, work: Callable[[Any, Any], T]) -> T:
        """In a thread, with clients of STS and IAM. Raises Mistake, Outage."""
        secret = await self._secret()
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._run, work, secret)

    def _run(self, work: Callable[[Any, Any], T], secret: str) -> T:
        from botocore.exceptions import BotoCoreError, ClientError, ConnectTimeoutError, EndpointConnectionError

        try:
            return work(*self._opened(secret))
        except ClientError as error:
            raise self._told(str(error.response.get("Error", {}).get("Code", ""))) from None
        except (ConnectTimeoutError, EndpointConnectionError):
            raise Outage(f"target {self._name} cannot be reached", code="target_unavailable", unsent=True) from None
        except (BotoCoreError, OSError):
            raise Outage(f"target {self._name} did not answer in time", code="target_unavailable") from None

    def _told(self, code: str) -> Mistake | Outage:
        """An error in our words: those of the service may hold values."""
        if code in _NOT_LET_IN:
            return Outage(f"target {self._name} does not let remit in", code="target_refused", unsent=True)
        if code in _REFUSED:
            return Mistake(
                f"target {self._name} refuses this ({code})",
                code="target_refused",
                hint="remit doctor; docs/targets.md has the rights that remit's user and the role need",
            )
        if code == "LimitExceeded":
            return Outage(
                f"the role of target {self._name} has no room for another denial until an older one may go", code="target_unavailable"
            )
        return Outage(f"target {self._name} cannot do it now", code="target_unavailable")

    def _opened(self, secret: str) -> tuple[Any, Any]:
        held = self._clients
        if held is None or held[0] != secret:
            from botocore.config import Config
            from botocore.session import Session

            key, _, word = secret.partition(":")
            if not key or not word:
                raise Mistake(
                    f"the secret of target {self._name} is no access key", code="target_refused", hint="ACCESS_KEY_ID:SECRET_ACCESS_KEY"
                )
            config = Config(
                connect_timeout=_CONNECT_SECONDS,
                read_timeout=_ANSWER_SECONDS,
                retries={"total_max_attempts": 1},
                max_pool_connections=self._connections,
                ignore_configured_endpoint_urls=True,
            )
            session = Session()
            more = {"endpoint_url": self._endpoint} if self._endpoint else {}
            sts, iam = (
                session.create_client(
                    service, region_name=self._region, aws_access_key_id=key, aws_secret_access_key=word, config=config, **more
                )
                for service in ("sts", "iam")
            )
            held = self._clients = (secret, sts, iam)
        return held[1], held[2]


def _remove(iam: Any, role: str, name: str) -> None:
    from botocore.exceptions import ClientError

    try:
        iam.delete_role_policy(RoleName=role, PolicyName=name)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") != "NoSuchEntity":  # another node was first
            raise


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _policy(statements: list[dict[str, Any]]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, separators=(",", ":"))


def _session_policy(statements: list[dict[str, Any]], expires_at: datetime) -> str:
    ends = {"DateLessThan": {"aws:CurrentTime": _time(expires_at.timestamp())}}
    text = _policy([{**one, "Condition": {**one.get("Condition", {}), **ends}} for one in statements])
    if len(text) > _POLICY_CHARACTERS_MAX:
        raise _wrong(f"the policy of this scope is longer than the {_POLICY_CHARACTERS_MAX:,} characters that AWS takes")
    return text


def _read_scope(scope: Scope, partition: str) -> list[dict[str, Any]]:
    """Statements that allow. Raises Mistake."""
    unknown = sorted(set(scope) - {"buckets", "actions"})
    if unknown:
        raise _wrong(f"{unknown[0]!r} is not part of a scope")
    buckets, actions = (_entries(scope, key) for key in ("buckets", "actions"))
    found = [statement for entry in buckets for statement in _bucket(entry, partition)] + [_action(entry) for entry in actions]
    if not found:
        raise _wrong("a scope names buckets or actions")
    return found


def _entries(scope: Scope, key: str) -> list[dict[str, Any]]:
    entries = scope.get(key, [])
    if not isinstance(entries, list) or len(entries) > _ENTRIES_MAX or not all(isinstance(entry, dict) for entry in entries):
        raise _wrong(f"scope.{key} must be a list of at most {_ENTRIES_MAX} tables")
    return entries


def _bucket(entry: dict[str, Any], partition: str) -> list[dict[str, Any]]:
    if set(entry) not in ({"bucket", "prefix", "allow"}, {"bucket", "key", "allow"}):
        raise _wrong("an entry of buckets has exactly: allow, bucket, and prefix or key")
    bucket, allow = entry["bucket"], entry["allow"]
    if not isinstance(bucket, str) or not _BUCKET.fullmatch(bucket):
        raise _wrong("bucket is no name of a bucket")
    if not isinstance(allow, list) or not allow or not all(isinstance(word, str) and word in _WORDS for word in allow):
        raise _wrong(f"allow is a list of: {', '.join(_WORDS)}")
    if "list" in allow and "key" in entry:
        raise _wrong("list goes with a prefix, not with a key")
    what = _literal(entry["key"]) if "key" in entry else _literal(entry["prefix"]) + "*"
    place = f"arn:{partition}:s3:::{bucket}"
    found: list[dict[str, Any]] = []
    if actions := [_OBJECT_WORDS[word] for word in dict.fromkeys(allow) if word in _OBJECT_WORDS]:
        found.append({"Effect": "Allow", "Action": actions, "Resource": f"{place}/{what}"})
    if "list" in allow:
        found.append({"Effect": "Allow", "Action": "s3:ListBucket", "Resource": place, "Condition": {"StringLike": {"s3:prefix": what}}})
    return found


def _action(entry: dict[str, Any]) -> dict[str, Any]:
    if set(entry) != {"allow", "resources"}:
        raise _wrong("an entry of actions has exactly: allow, resources")
    allow, resources = entry["allow"], entry["resources"]
    for name, value in (("allow", allow), ("resources", resources)):
        if not isinstance(value, list) or not 0 < len(value) <= _ENTRIES_MAX:
            raise _wrong(f"{name} is a list of 1 to {_ENTRIES_MAX} texts")
    for word in allow:
        named = _ACTION.fullmatch(word) if isinstance(word, str) else None
        if named is None:
            raise _wrong("an action is one action, like dynamodb:GetItem")
        if named[1] in _IDENTITIES:
            raise _wrong(f"{word} may make or lend identities, which would outlive the task")
    for resource in resources:
        if not _literal(resource).startswith("arn:"):
            raise _wrong("a resource is an ARN")
    return {"Effect": "Allow", "Action": list(allow), "Resource": list(resources)}


def _literal(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value.encode()) <= _TEXT_BYTES_MAX or not value.isprintable():
        raise _wrong(f"a name has 1 to {_TEXT_BYTES_MAX} bytes and no control characters")
    if set(value) & set("*?$"):
        raise _wrong("a name has no *, ? or $, which are patterns and variables in a policy of AWS")
    return value


def _wrong(what: str) -> Mistake:
    return Mistake(what, code="lease_scope", hint=_EXAMPLE)


def _check_settings(values: Mapping[str, Any]) -> None:
    """A role, a region, and the library. Raises Mistake."""
    if importlib.util.find_spec("botocore") is None:
        raise Mistake("targets of kind aws need botocore, which is not installed", code="target", hint=_EXTRA_HINT)
    if not _ROLE.fullmatch(values["role"]):
        raise Mistake("role is no ARN of a role", code="target", hint=_ROLE_HINT)
    if not _REGION.fullmatch(values["region"]):
        raise Mistake("region is no region of AWS", code="target", hint='region = "eu-central-1"')
    if values["endpoint"]:
        try:
            known = urlsplit(values["endpoint"])
            good = known.hostname and known.port != 0 and not known.username and known.path in {"", "/"} and not known.query
        except ValueError:
            good = False
        if not good or (known.scheme != "https" and not (known.scheme == "http" and known.hostname in {"127.0.0.1", "::1", "localhost"})):
            raise Mistake("endpoint is no https address (http on this machine)", code="target", hint="leave it out for AWS itself")


AWS = TargetKind(
    name="aws",
    settings={
        "role": Setting(kind=str, hint=_ROLE_HINT),
        "region": Setting(kind=str, hint='region = "eu-central-1"'),
        "session_seconds": Setting(kind=int, default=3_600, most=_SESSION_SECONDS_MAX),
        "endpoint": Setting(kind=str, default=""),
    },
    blank={"access_key_id": "", "secret_access_key": "", "session_token": "", "region": "us-east-1"},
    check_settings=_check_settings,
    check_scope=lambda scope: (_read_scope(scope, "aws"), None)[1],
    open=AwsTarget,
    lists=False,
    divisible=frozenset({"actions", "buckets"}),
)
