"""The messages of the SPIFFE Workload API (``workload.proto``) as classes of ``protobuf``.

They are described here in Python rather than generated: the standard fixes names, numbers and types (SPIFFE Workload API, appendix A),
and a pool of our own lives beside the generated ones of any client in the same process. Left out: WIT-SVIDs, an optional profile.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, message_factory, struct_pb2
from google.protobuf.descriptor_pool import DescriptorPool

_TEXT, _BYTES, _MESSAGE = (
    descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
    descriptor_pb2.FieldDescriptorProto.TYPE_BYTES,
    descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE,
)
_ONE, _MANY = descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL, descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED
_MAP = "map<string, bytes>"
_STRUCT = ".google.protobuf.Struct"
# message → fields: name, type (of another message: its name after a dot), whether there may be many
_MESSAGES: dict[str, tuple[tuple[str, int | str, bool], ...]] = {
    "X509SVIDRequest": (),
    "X509SVIDResponse": (("svids", ".X509SVID", True), ("crl", _BYTES, True), ("federated_bundles", _MAP, True)),
    "X509SVID": (
        ("spiffe_id", _TEXT, False),
        ("x509_svid", _BYTES, False),
        ("x509_svid_key", _BYTES, False),
        ("bundle", _BYTES, False),
        ("hint", _TEXT, False),
    ),
    "X509BundlesRequest": (),
    "X509BundlesResponse": (("crl", _BYTES, True), ("bundles", _MAP, True)),
    "JWTSVIDRequest": (("audience", _TEXT, True), ("spiffe_id", _TEXT, False)),
    "JWTSVIDResponse": (("svids", ".JWTSVID", True),),
    "JWTSVID": (("spiffe_id", _TEXT, False), ("svid", _TEXT, False), ("hint", _TEXT, False)),
    "JWTBundlesRequest": (),
    "JWTBundlesResponse": (("bundles", _MAP, True),),
    "ValidateJWTSVIDRequest": (("audience", _TEXT, False), ("svid", _TEXT, False)),
    "ValidateJWTSVIDResponse": (("spiffe_id", _TEXT, False), ("claims", _STRUCT, False)),
}
# method → request, response, whether the response is a stream
METHODS: dict[str, tuple[str, str, bool]] = {
    "FetchX509SVID": ("X509SVIDRequest", "X509SVIDResponse", True),
    "FetchX509Bundles": ("X509BundlesRequest", "X509BundlesResponse", True),
    "FetchJWTSVID": ("JWTSVIDRequest", "JWTSVIDResponse", False),
    "FetchJWTBundles": ("JWTBundlesRequest", "JWTBundlesResponse", True),
    "ValidateJWTSVID": ("ValidateJWTSVIDRequest", "ValidateJWTSVIDResponse", False),
}
SERVICE = "SpiffeWorkloadAPI"  # of no package
HEADER = ("workload.spiffe.io", "true")


def _described() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="workload.proto", syntax="proto3", dependency=[struct_pb2.DESCRIPTOR.name])
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, kind, many) in enumerate(fields, start=1):
            label = _MANY if many else _ONE
            if kind == _MAP:
                entry = field.title().replace("_", "") + "Entry"
                nested = message.nested_type.add(name=entry, options=descriptor_pb2.MessageOptions(map_entry=True))
                nested.field.add(name="key", number=1, label=_ONE, type=_TEXT)
                nested.field.add(name="value", number=2, label=_ONE, type=_BYTES)
                kind = f".{name}.{entry}"
            if isinstance(kind, str):
                message.field.add(name=field, number=number, label=label, type=_MESSAGE, type_name=kind)
            else:
                message.field.add(name=field, number=number, label=label, type=kind)
    service = file.service.add(name=SERVICE)
    for method, (request, response, streams) in METHODS.items():
        service.method.add(name=method, input_type=f".{request}", output_type=f".{response}", server_streaming=streams)
    return file


def _classes() -> dict[str, Any]:
    pool = DescriptorPool()
    pool.AddSerializedFile(struct_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(_described().SerializeToString())
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(name)) for name in _MESSAGES}


MESSAGES: dict[str, Any] = _classes()
"""The class of each message by its name."""
