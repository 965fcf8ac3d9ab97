"""What of a schema TFDV's statistics depend on: the rest of it is compared with them afterwards.

A curated schema says which numbers are categories, which bytes are images, which features belong together. TFDV has to
know that before it counts. A range, an environment or a limit on drift it needs only to validate.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tensorflow_metadata.proto.v0.schema_pb2 import FLOAT, INT, STRUCT, Feature, Schema, StructDomain

from ctd.components.metadata_files import digest_of_messages

_OF_INTS = ("bool_domain", "natural_language_domain")


def counted_part(schema: Schema) -> Schema:
    """The schema without anything that statistics do not depend on; empty if they do not depend on it at all."""
    found = Schema()
    _take(schema, found)
    for weighted in schema.weighted_feature:
        kept = found.weighted_feature.add(name=weighted.name)
        kept.feature.CopyFrom(weighted.feature)
        kept.weight_feature.CopyFrom(weighted.weight_feature)
    return found


def counted_digest(schema: Schema) -> str:
    """The identity of that part; empty where there is nothing."""
    part = counted_part(schema)
    return digest_of_messages({"schema": part}) if part.ByteSize() else ""


def _is_categorical(feature: Any) -> bool:
    """Whether TFDV counts how often each number of a feature occurs, as it always does of texts."""
    if feature.type == FLOAT:
        return bool(feature.float_domain.is_categorical)
    return feature.type == INT and (feature.int_domain.is_categorical or feature.WhichOneof("domain_info") in _OF_INTS)


def _tokens_counted(feature: Any) -> bool:
    """Whether TFDV counts the tokens of a feature: only where its domain says which of them count."""
    said, coverage = feature.natural_language_domain, feature.natural_language_domain.coverage
    return bool(
        said.vocabulary or coverage.excluded_string_tokens or coverage.excluded_int_tokens or coverage.oov_string_tokens
    )


def without_vocabularies(schema: Schema, known: Iterable[str] = ()) -> Schema:
    """The same, where tokens of a vocabulary that is not there are left uncounted: TFDV would end in a KeyError."""
    found = Schema.FromString(schema.SerializeToString())
    _drop_unknown(found.feature, frozenset(known))
    return found


def _take(source: Any, found: Schema | StructDomain) -> None:
    for sparse in source.sparse_feature:
        kept = found.sparse_feature.add(name=sparse.name)
        kept.value_feature.name = sparse.value_feature.name
        for name in sorted({index.name for index in sparse.index_feature}):
            kept.index_feature.add(name=name)
    for feature in source.feature:
        part = _feature(feature)
        if part is not None:
            found.feature.add().CopyFrom(part)


def _feature(feature: Any) -> Any:
    found = Feature(name=feature.name)
    if feature.type == STRUCT:
        found.type = STRUCT
        _take(feature.struct_domain, found.struct_domain)
        return found if found.struct_domain.ByteSize() else None
    domain = feature.WhichOneof("domain_info")
    if domain == "image_domain":
        found.image_domain.SetInParent()
        return found
    if _is_categorical(feature):
        found.type = feature.type
        getattr(found, "float_domain" if feature.type == FLOAT else "int_domain").is_categorical = True
    if domain == "natural_language_domain" and _tokens_counted(feature):
        _take_language(feature.natural_language_domain, found.natural_language_domain)
    return found if found.WhichOneof("domain_info") else None


def _take_language(source: Any, found: Any) -> None:
    """Which tokens count, not how many there have to be. Of nested features TFDV decides itself."""
    found.vocabulary = source.vocabulary
    for name in ("excluded_string_tokens", "excluded_int_tokens", "oov_string_tokens"):
        getattr(found.coverage, name).extend(sorted(set(getattr(source.coverage, name))))
    lengths = found.sequence_length_constraints
    for name in ("excluded_int_value", "excluded_string_value"):
        getattr(lengths, name).extend(sorted(set(getattr(source.sequence_length_constraints, name))))
    for token in source.token_constraints:
        kept = found.token_constraints.add()
        which = token.WhichOneof("value") or "string_value"
        setattr(kept, which, getattr(token, which))


def _drop_unknown(features: Any, known: frozenset[str]) -> None:
    for feature in features:
        if feature.type == STRUCT:
            _drop_unknown(feature.struct_domain.feature, known)
        elif feature.natural_language_domain.vocabulary not in {"", *known}:
            feature.ClearField("natural_language_domain")
            if feature.type == INT:
                feature.int_domain.is_categorical = True
