"""All kinds of targets that ``[targets.NAME] kind`` may name. A new one is a file beside this and a line here."""

from __future__ import annotations

from remit.drivers.targets.aws import AWS
from remit.drivers.targets.mariadb import MARIADB
from remit.drivers.targets.nats import NATS
from remit.drivers.targets.postgresql import POSTGRESQL
from remit.drivers.targets.rabbitmq import RABBITMQ
from remit.drivers.targets.redis import REDIS
from remit.drivers.targets.static import STATIC

TARGET_KINDS = {kind.name: kind for kind in (AWS, MARIADB, NATS, POSTGRESQL, RABBITMQ, REDIS, STATIC)}
