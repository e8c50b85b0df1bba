"""AWS as far as it can be had here: moto's STS, IAM and S3 over a real socket, and in front of it a judge of requests.

moto knows sessions, keys and inline policies, and checks signatures; of policies it leaves out session policies and most conditions, so
that a session could do whatever its role may. ``Judge`` is our stand-in for just that: a request of a session passes if the role's
policies and the session's policy both allow it and none denies it, by Action, Resource, and the conditions StringLike and DateLessThan.

What this does not prove: that AWS itself reads our policies so, how long it takes until a new denial is in force everywhere (AWS: usually
seconds), its quotas, and its limits on the length of sessions.
"""

from __future__ import annotations

import contextlib
import fnmatch
import io
import json
import re
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote

import botocore.session
from botocore.config import Config
from moto.iam.access_control import IAMRequest, S3IAMRequest
from moto.iam.models import iam_backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3.models import s3_backends
from moto.sts.models import sts_backends
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from tests.servers.postgres import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

ACCOUNT = "123456789012"
ROLE = "agents"
_INLINE_MAX = 10_240  # of all inline policies of a role, by IAM's quotas, which moto does not keep
_ACTIONS = {"GET": "s3:GetObject", "PUT": "s3:PutObject", "DELETE": "s3:DeleteObject"}
_ROLE_MAY = {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket"], "Resource": "*"}
_TRUST = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}]}


class _Quiet(WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        """Nothing."""


class AwsServer:
    """An account with a role, a user for remit, and a bucket ``reports``. All requests are kept as text in ``heard``."""

    def __init__(self) -> None:
        self.port, self._session = free_port(), botocore.session.Session()
        self.heard: list[str] = []
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server: Any = None
        self._thread: threading.Thread | None = None
        self.simulates = True  # whether remit's user may ask what the role may
        self._open = True  # until there is a user to sign with
        for backends in (iam_backends, sts_backends, s3_backends):  # moto keeps them for the process
            backends.reset()
        self.start()
        iam, s3 = self.client("iam", "AKIAFIRST", "first"), self.client("s3", "AKIAFIRST", "first")
        iam.create_user(UserName="remit")
        made = iam.create_access_key(UserName="remit")["AccessKey"]
        self.key, self.secret = made["AccessKeyId"], made["SecretAccessKey"]
        iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument=json.dumps(_TRUST))
        document = json.dumps({"Version": "2012-10-17", "Statement": [_ROLE_MAY]})
        iam.put_role_policy(RoleName=ROLE, PolicyName="work", PolicyDocument=document)
        s3.create_bucket(Bucket="reports")
        for name in ("acme/1", "acme/2", "globex/1"):
            s3.put_object(Bucket="reports", Key=name, Body=name.encode())
        self._open = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, service: str, key: str = "", secret: str = "", token: str | None = None) -> Any:
        return self._session.create_client(
            service,
            region_name="us-east-1",
            endpoint_url=self.url,
            aws_access_key_id=key or self.key,
            aws_secret_access_key=secret or self.secret,
            aws_session_token=token,
            config=Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=30, s3={"addressing_style": "path"}),
        )

    def start(self) -> None:
        self._server = make_server("127.0.0.1", self.port, self._judged, threaded=True, request_handler=_Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        if self._thread is not None:
            self._thread.join(10)

    def sessions(self) -> dict[str, Any]:
        """Sessions by name, as moto keeps them."""
        return {one.session_name: one for one in sts_backends[ACCOUNT]["aws"].assumed_roles}

    def forget(self) -> None:
        """No sessions and no denials."""
        sts_backends[ACCOUNT]["aws"].assumed_roles.clear()
        iam = self.client("iam")
        for name in self.denials():
            iam.delete_role_policy(RoleName=ROLE, PolicyName=name)
        self.heard.clear()
        self.simulates = True
        self.role_may([_ROLE_MAY])

    def role_may(self, statements: list[dict[str, Any]]) -> None:
        """What the role's own policy says."""
        document = json.dumps({"Version": "2012-10-17", "Statement": statements})
        self.client("iam").put_role_policy(RoleName=ROLE, PolicyName="work", PolicyDocument=document)

    def denials(self) -> list[str]:
        return [name for name in self.client("iam").list_role_policies(RoleName=ROLE)["PolicyNames"] if name != "work"]

    def may(self, session: Any, action: str, resource: str, prefix: str = "") -> bool:
        """Whether a session may do something now."""
        context = {"aws:userid": session.user_id, "aws:CurrentTime": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", "s3:prefix": prefix}
        role = iam_backends[ACCOUNT]["aws"].get_role(ROLE)
        of_role = [effect for document in role.policies.values() for effect in _effects(json.loads(document), action, resource, context)]
        of_session = _effects(json.loads(session.policy), action, resource, context)
        return "Deny" not in of_role + of_session and "Allow" in of_role and "Allow" in of_session

    def _judged(self, environment: Any, start: Any) -> Any:
        request = Request(environment)
        body = request.get_data(cache=True)
        environment["wsgi.input"] = io.BytesIO(body)  # moto reads it once more
        self.heard.append(f"{request.url} {dict(request.headers)}")
        try:
            refusal = None if self._open else self._refusal(request, body)
        except Exception as error:
            refusal = re.sub(r"Exception|Error$", "", type(error).__name__)
        if refusal:
            xml = f"<ErrorResponse><Error><Code>{refusal}</Code><Message>no</Message></Error></ErrorResponse>"
            if not request.form:
                xml = f"<Error><Code>{refusal}</Code><Message>no</Message></Error>"
            return Response(xml, 403, content_type="text/xml")(environment, start)
        if request.form.get("Action") == "SimulatePrincipalPolicy":  # which moto does not have
            return Response(self._simulated(request.form), content_type="text/xml")(environment, start)
        return self._moto(environment, start)

    def _simulated(self, form: Any) -> str:
        """By the role's own policies, as IAM describes it: for each action on each resource."""
        assert form["PolicySourceArn"].endswith(f":role/{ROLE}")
        lists = {word: [form[key] for key in form if key.startswith(f"{word}.member.")] for word in ("ActionNames", "ResourceArns")}
        context = {"aws:userid": "", "aws:CurrentTime": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"}
        context["s3:prefix"] = form.get("ContextEntries.member.1.ContextKeyValues.member.1", "")
        documents = iam_backends[ACCOUNT]["aws"].get_role(ROLE).policies.values()
        told = ""
        for action in lists["ActionNames"]:
            for resource in lists["ResourceArns"]:
                effects = [effect for document in documents for effect in _effects(json.loads(document), action, resource, context)]
                decision = "explicitDeny" if "Deny" in effects else "allowed" if effects else "implicitDeny"
                told += f"<member><EvalActionName>{action}</EvalActionName><EvalResourceName>{resource}</EvalResourceName>"
                told += f"<EvalDecision>{decision}</EvalDecision></member>"
        inner = f"<IsTruncated>false</IsTruncated><EvaluationResults>{told}</EvaluationResults>"
        name = "SimulatePrincipalPolicyResponse"
        return f"<{name}><{name.replace('Response', 'Result')}>{inner}</{name.replace('Response', 'Result')}></{name}>"

    def _refusal(self, request: Request, body: bytes) -> str:
        authorization = request.headers.get("Authorization", "")
        found = re.search(r"Credential=([^/]+)/\d+/[^/]+/(\w+)/", authorization)
        if found is None:
            return "AccessDenied"
        path = request.environ["RAW_URI"] if "RAW_URI" in request.environ else request.full_path.rstrip("?")
        kind = S3IAMRequest if found[2] == "s3" else IAMRequest
        form = {name: value[0] for name, value in parse_qs(body.decode()).items()} if request.form else {}
        kind(ACCOUNT, request.method, path, form, body, dict(request.headers), "x").check_signature()
        if form.get("Action") == "SimulatePrincipalPolicy" and not self.simulates:
            return "AccessDenied"
        if form.get("Action") == "PutRolePolicy":
            held = sum(len(document) for document in iam_backends[ACCOUNT]["aws"].get_role(ROLE).policies.values())
            if held + len(form["PolicyDocument"]) > _INLINE_MAX:
                return "LimitExceeded"
        named = [one for one in self.sessions().values() if one.access_key_id == found[1]]
        if not named:
            return ""
        if form:
            action, resource, prefix = f"{found[2]}:{form['Action']}", "*", ""
        else:
            bucket, _, key = unquote(request.path).lstrip("/").partition("/")
            action = _ACTIONS[request.method] if key else "s3:ListBucket" if request.method == "GET" else "s3:Other"
            resource, prefix = f"arn:aws:s3:::{bucket}" + (f"/{key}" if key else ""), request.args.get("prefix", "")
        return "" if self.may(named[0], action, resource, prefix) else "AccessDenied"


def _effects(policy: dict[str, Any], action: str, resource: str, context: dict[str, str]) -> list[str]:
    return [one["Effect"] for one in policy["Statement"] if _concerns(one, action, resource, context)]


def _concerns(statement: dict[str, Any], action: str, resource: str, context: dict[str, str]) -> bool:
    matches = [_like(action, statement["Action"]), _like(resource, statement["Resource"])]
    for operator, wanted in statement.get("Condition", {}).items():
        for name, value in wanted.items():
            matches.append({"StringLike": _like, "DateLessThan": lambda actual, limit: actual < limit}[operator](context[name], value))
    return all(matches)


def _like(actual: str, wanted: str | list[str]) -> bool:
    patterns = [wanted] if isinstance(wanted, str) else wanted
    return any(fnmatch.fnmatchcase(actual, pattern.replace("[", "[[]")) for pattern in patterns)


@contextlib.contextmanager
def aws_server() -> Iterator[AwsServer]:
    """Such an account."""
    server = AwsServer()
    try:
        yield server
    finally:
        server.stop()
