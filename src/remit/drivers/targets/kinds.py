"""All kinds of targets that ``[targets.NAME] kind`` may name. A new one is a file beside this and a line here."""

from __future__ import annotations

from remit.drivers.targets.aws import AWS
from remit.drivers.targets.github import GITHUB
from remit.drivers.targets.kubernetes import KUBERNETES
from remit.drivers.targets.mariadb import MARIADB
from remit.drivers.targets.nats import NATS
from remit.drivers.targets.oauth import OAUTH
from remit.drivers.targets.postgresql import POSTGRESQL
from remit.drivers.targets.rabbitmq import RABBITMQ
from remit.drivers.targets.redis import REDIS
from remit.drivers.targets.ssh import SSH
from remit.drivers.targets.static import STATIC
from remit.drivers.targets.x509 import X509

TARGET_KINDS = {kind.name: kind for kind in (AWS, GITHUB, KUBERNETES, MARIADB, NATS, OAUTH, POSTGRESQL, RABBITMQ, REDIS, SSH, STATIC, X509)}
