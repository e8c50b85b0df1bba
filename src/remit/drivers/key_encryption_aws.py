"""A key-encryption key of AWS KMS: Encrypt and Decrypt with an encryption context, so that a key policy can name purpose and trust domain.

Rules: the key is named in both calls, so nothing is opened by another one. Each call is answered in seconds or fails. Credentials, proxies
and endpoints are those of AWS's own environment, files and metadata service. It is asked where remit starts, not while it serves.
botocore is an extra of the package, imported where it is used. AWS KMS API Reference, Encrypt, Decrypt.
"""

from __future__ import annotations

import importlib.util
import logging
from typing import TYPE_CHECKING, Any

from remit.drivers.key_encryption import does_not_open
from remit.errors import Mistake, Outage

if TYPE_CHECKING:
    from collections.abc import Mapping

_CONNECT_SECONDS, _ANSWER_SECONDS, _ATTEMPTS = 3, 5, 2
_NOT_OPENED = frozenset({"InvalidCiphertextException", "IncorrectKeyException"})
_AWAY = frozenset({"DependencyTimeoutException", "KMSInternalException", "KeyUnavailableException", "ThrottlingException"})


class AwsKms:
    """See KeyEncryption."""

    def __init__(self, arn: str, context: Mapping[str, str]) -> None:
        """Raises Mistake where botocore is not installed."""
        if importlib.util.find_spec("botocore") is None:
            raise Mistake("aws-kms needs botocore, which is not installed", code="key_encryption", hint='pip install "remit[aws]"')
        self._arn, self._context = arn, dict(context)

    def wrap(self, key: bytes) -> bytes:
        """See KeyEncryption."""
        return bytes(self._asked("encrypt", Plaintext=key)["CiphertextBlob"])

    def unwrap(self, wrapped: bytes) -> bytes:
        """See KeyEncryption."""
        return bytes(self._asked("decrypt", CiphertextBlob=wrapped)["Plaintext"])

    def _asked(self, verb: str, **what: bytes) -> Any:
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
        from botocore.exceptions import ConnectionError as NotConnected
        from botocore.session import Session

        logging.getLogger("botocore").setLevel(logging.INFO)  # below that it logs bodies, and a body here is a key
        config = Config(connect_timeout=_CONNECT_SECONDS, read_timeout=_ANSWER_SECONDS, retries={"total_max_attempts": _ATTEMPTS})
        try:
            client = Session().create_client("kms", region_name=self._arn.split(":")[3], config=config)
            try:
                return getattr(client, verb)(KeyId=self._arn, EncryptionContext=self._context, **what)
            finally:
                client.close()
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))[:80]
            if code in _NOT_OPENED:
                raise does_not_open() from None
            if code in _AWAY:
                raise Outage(f"AWS KMS does not answer now: {code}", code="key_encryption") from None
            hint = f"the key {self._arn} has to be there, and to let remit kms:Encrypt and kms:Decrypt with this encryption context"
            raise Mistake(f"AWS KMS refuses to {verb}: {code}", code="key_encryption", hint=hint) from None
        except (HTTPClientError, NotConnected) as error:
            raise Outage(f"AWS KMS cannot be reached: {type(error).__name__}", code="key_encryption") from None
        except (BotoCoreError, ValueError) as error:
            hint = "credentials come from AWS's environment variables, files or metadata service"
            raise Mistake(f"AWS KMS cannot be asked: {type(error).__name__}", code="key_encryption", hint=hint) from None
