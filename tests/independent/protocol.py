"""Signing and verifying, written from the protocol page and the RFCs alone.

HTTP Message Signatures (RFC 9421: sections 2.1 to 2.5 the signature base, 3.1 and 3.2
signing and verifying, 3.3.3 hmac-sha256, 2.4 signatures over responses, appendix B.2.5 the
vector checked by `selftest.py`), digest fields (RFC 9530 section 2: Content-Digest is over
the content as sent, after any content coding) and structured fields (RFC 8941, in
`structured.py`). Nothing here comes from the program under test.

`sign` puts every piece of a signature within reach of a caller who wants it wrong.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import threading
import time
from dataclasses import dataclass

from structured import InnerList, Item, Unparsable, parse_dictionary, write_member, write_params
from wire import Request, Response

ALGORITHM = "hmac-sha256"
TAG = "lockstep"
WINDOW = 300
SHORTEST_NONCE = 22
PROBLEM = "urn:lockstep:problem:"
REQUEST_COMPONENTS = ('"@method"', '"@path"', '"@query"')
DERIVED = {"@method", "@path", "@query", "@authority"}


class Refused(Exception):
    """A signed message that doesn't pass; `kind` is the last part of the problem type.

    `label` is that of the signature whose MAC was right, None where it wasn't: only then
    may the answer be signed.
    """

    def __init__(self, kind: str, why: str, label: str | None = None):
        super().__init__(f"{kind}: {why}")
        self.kind = kind
        self.why = why
        self.label = label


@dataclass(frozen=True)
class Signer:
    name: str
    key: bytes

    @staticmethod
    def from_text(name: str, key: str) -> Signer:
        return Signer(name, decode_key(key))

    def mac(self, base: str) -> bytes:
        return hmac.new(self.key, base.encode("latin-1"), hashlib.sha256).digest()


def decode_key(text: str) -> bytes:
    key = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if len(key) != 32:
        raise ValueError(f"a key has 32 bytes, this one {len(key)}")
    return key


def encode_key(key: bytes) -> str:
    return base64.urlsafe_b64encode(key).decode().rstrip("=")


def new_nonce(size: int = 16) -> str:
    return encode_key(secrets.token_bytes(size))


def now() -> int:
    return int(time.time())


def byte_sequence(data: bytes) -> str:
    return ":" + base64.b64encode(data).decode() + ":"


def content_digest(body: bytes, algorithm: str = "sha-256") -> str:
    return f"{algorithm}={byte_sequence(hashlib.new(algorithm.replace('-', ''), body).digest())}"


# The signature base


def component_value(component: Item, message, request: Request | None) -> str:
    """One component of `message`, or with `;req` of the request it answers."""
    params = dict(component.params)
    source = message
    if params.pop("req", False):
        if request is None:
            raise Unparsable(";req outside a response")
        source = request
    member = params.pop("key", None)
    if params:
        raise Unparsable(f"component parameters {sorted(params)}")
    name = component.value
    if name.startswith("@"):
        return derived_value(name, source)
    value = source.header(name)
    if value is None or name != name.lower():
        raise Unparsable(f"component {name!r} isn't in the message")
    return value if member is None else write_member(parse_dictionary(value)[member])


def derived_value(name: str, source) -> str:
    if name == "@status" and isinstance(source, Response):
        return str(source.status)
    if name not in DERIVED or isinstance(source, Response):
        raise Unparsable(f"derived component {name!r}")
    if name == "@method":
        return source.method
    if name == "@path":
        return source.path
    if name == "@query":
        return source.query
    return (source.header("host") or "").lower().removesuffix(":80")


def signature_base(pairs: list[tuple[str, str]], params: str) -> str:
    return "\n".join([f"{identifier}: {value}" for identifier, value in pairs] + [f'"@signature-params": {params}'])


def base_of(signature_input: InnerList, message, request: Request | None = None) -> str:
    pairs = [(write_member(item), component_value(item, message, request)) for item in signature_input.items]
    return signature_base(pairs, write_member(signature_input))


# Signing


def default_params(signer: Signer) -> dict[str, str]:
    return {
        "created": str(now()),
        "nonce": f'"{new_nonce()}"',
        "keyid": f'"{signer.name}"',
        "alg": f'"{ALGORITHM}"',
        "tag": f'"{TAG}"',
    }


def value_as_written(identifier: str, message, request: Request | None) -> str:
    """The component's value; nothing where a wrong identifier has none, as a careless signer would."""
    try:
        item = parse_dictionary(f"x={identifier}")["x"]
        return component_value(item, message, request)
    except (Unparsable, KeyError, AttributeError):
        return ""


@dataclass(frozen=True)
class Signature:
    """A label's two members, ready to be written, broken or put beside others."""

    label: str
    input: str
    value: str

    @property
    def headers(self) -> list[tuple[str, str]]:
        return [("Signature-Input", f"{self.label}={self.input}"), ("Signature", f"{self.label}={self.value}")]


def make_signature(message, signer: Signer, *, label="sig1", components, params, order=None, request=None) -> Signature:
    """Signature over `components` (identifiers as written) with `params` (values as written)."""
    names = order or list(params)
    written = "(" + " ".join(components) + ")" + "".join(f";{name}={params[name]}" for name in names)
    pairs = [(identifier, value_as_written(identifier, message, request)) for identifier in components]
    return Signature(label, written, byte_sequence(signer.mac(signature_base(pairs, written))))


def with_digest(request: Request) -> Request:
    if not request.body or request.header("content-digest") is not None:
        return request
    return request.adding(("Content-Digest", content_digest(request.body)))


def needed_components(request: Request) -> tuple[str, ...]:
    return REQUEST_COMPONENTS + (('"content-digest"',) if request.body else ())


def request_signature(request: Request, signer: Signer, *, label="sig1", components=None, order=None, **params) -> Signature:
    """Right unless told otherwise; a parameter set to None is left out."""
    merged = default_params(signer) | params
    kept = {name: text for name, text in merged.items() if text is not None}
    wanted = needed_components(request) if components is None else components
    return make_signature(request, signer, label=label, components=wanted, params=kept, order=order)


def sign(request: Request, signer: Signer, **knobs) -> Request:
    """The request with its digest and signature; see `request_signature` for the knobs."""
    digested = with_digest(request)
    return digested.adding(*request_signature(digested, signer, **knobs).headers)


def sign_response(response: Response, request: Request, label: str, signer: Signer, created: int | None = None) -> Response:
    """As the protocol page has it: status, digest (or ETag of a 304) and the request's signature."""
    content = '"etag"' if response.status == 304 else '"content-digest"'
    components = ('"@status"', content, f'"signature";req;key="{label}"')
    params = default_params(signer) | {"created": str(now() if created is None else created)}
    made = make_signature(response, signer, components=components, params=params, request=request)
    return response.adding(*made.headers)


# Verifying


def parse_field(message, name: str) -> dict:
    return parse_dictionary(message.header(name) or "")


def is_string(value: object, wanted: str) -> bool:
    """A quoted string; a bare word of the same letters isn't one."""
    return type(value) is str and value == wanted


def ours(message) -> tuple[str, InnerList, bytes]:
    """The one signature tagged as ours: label, input and MAC."""
    inputs, values = parse_field(message, "signature-input"), parse_field(message, "signature")
    tagged = [label for label, member in inputs.items() if isinstance(member, InnerList) and is_string(member.params.get("tag"), TAG)]
    if len(tagged) != 1:
        raise Unparsable(f"{len(tagged)} signatures tagged {TAG}")
    label = tagged[0]
    value = values.get(label)
    if not isinstance(value, Item) or not isinstance(value.value, bytes):
        raise Unparsable(f"no byte sequence for {label}")
    return label, inputs[label], value.value


def check_form(request: Request, signed: InnerList) -> None:
    identifiers = [write_member(item) for item in signed.items]
    if len(set(identifiers)) != len(identifiers) or any(type(item.value) is not str for item in signed.items):
        raise Unparsable("a component twice, or not a string")
    missing = set(needed_components(request)) - set(identifiers)
    if missing:
        raise Unparsable(f"not covered: {sorted(missing)}")
    params = signed.params
    if type(params.get("created")) is not int or type(params.get("expires", 0)) is not int:
        raise Unparsable("created and expires are integers")
    if any(type(params.get(name)) is not str for name in ("nonce", "keyid")):
        raise Unparsable("nonce and keyid are strings")
    if len(params["nonce"]) < SHORTEST_NONCE:
        raise Unparsable("nonce too short")
    if "alg" in params and not is_string(params["alg"], ALGORITHM):
        raise Unparsable("algorithm")
    if '"content-digest"' in identifiers and type(sha256_of_field(request)) is not bytes:
        raise Unparsable("no sha-256 in Content-Digest")


def sha256_of_field(message) -> object:
    member = parse_field(message, "content-digest").get("sha-256")
    return member.value if isinstance(member, Item) else None


class Nonces:
    """What has been seen under each key; a test is short enough to forget nothing."""

    def __init__(self):
        self._seen: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def is_new(self, name: str, nonce: str) -> bool:
        with self._lock:
            if (name, nonce) in self._seen:
                return False
            self._seen.add((name, nonce))
            return True


def verify_request(request: Request, signers: dict[str, Signer], nonces: Nonces, clock: int) -> tuple[Signer, str]:
    """Who signed it and under which label; raises `Refused` in the order of the protocol."""
    if request.header("signature-input") is None and request.header("signature") is None:
        raise Refused("unsigned", "neither Signature-Input nor Signature")
    try:
        label, signed, mac = ours(request)
        check_form(request, signed)
        base = base_of(signed, request)
    except (Unparsable, KeyError, AttributeError) as error:
        raise Refused("malformed-signature", str(error)) from error
    signer = signers.get(signed.params["keyid"])
    expected = (signer or Signer("", bytes(32))).mac(base)
    if not hmac.compare_digest(expected, mac) or signer is None:
        raise Refused("bad-signature", "unknown key or wrong MAC")
    if abs(clock - signed.params["created"]) > WINDOW or signed.params.get("expires", clock) < clock:
        raise Refused("clock-skew", "created or expires is out of the window", label)
    if not nonces.is_new(signer.name, signed.params["nonce"]):
        raise Refused("replayed", "nonce seen before", label)
    covers_digest = any(item.value == "content-digest" for item in signed.items)
    if covers_digest and sha256_of_field(request) != hashlib.sha256(request.body).digest():
        raise Refused("digest-mismatch", "Content-Digest isn't the body's", label)
    return signer, label


def label_of(request: Request) -> str:
    return ours(request)[0]


def response_signature_problem(response: Response, request: Request, signer: Signer) -> str | None:
    """What is wrong with the response's signature, None if nothing is."""
    if response.header("signature-input") is None or response.header("signature") is None:
        return "the response is not signed"
    try:
        candidates = parse_field(response, "signature-input")
        values = parse_field(response, "signature")
    except Unparsable as error:
        return f"the response's signature fields: {error}"
    if not candidates:
        return "the response's Signature-Input is empty"
    problems = [one_signature_problem(response, request, signer, member, values.get(label)) for label, member in candidates.items()]
    return None if None in problems else "; ".join(problems)


def one_signature_problem(response: Response, request: Request, signer: Signer, signed, value) -> str | None:
    if not isinstance(signed, InnerList) or not isinstance(value, Item) or not isinstance(value.value, bytes):
        return "the response's signature isn't an inner list and a byte sequence"
    if missing := missing_from_response(response, request, signed):
        return f"the response's signature doesn't cover {missing}"
    if signed.params.get("alg", ALGORITHM) != ALGORITHM or signed.params.get("keyid", signer.name) != signer.name:
        return f"the response's signature has parameters {write_params(signed.params)}"
    try:
        base = base_of(signed, response, request)
    except (Unparsable, KeyError) as error:
        return f"the response's signature base: {error}"
    if not hmac.compare_digest(signer.mac(base), value.value):
        return f"the response's MAC is wrong over {base!r}"
    return digest_problem(response)


def missing_from_response(response: Response, request: Request, signed: InnerList) -> list[str]:
    """Component parameters have no order, so identifiers are compared as sets of them."""
    covered = {(item.value, frozenset(item.params.items())) for item in signed.items}
    wanted = {
        "@status": ("@status", frozenset()),
        "the request's signature": ("signature", frozenset({("req", True), ("key", label_of(request))})),
    }
    if response.status == 304:
        wanted["etag"] = ("etag", frozenset())
    elif response.body:
        wanted["content-digest"] = ("content-digest", frozenset())
    return [name for name, identifier in wanted.items() if identifier not in covered]


def digest_problem(message) -> str | None:
    """What is wrong with the Content-Digest of a message that has content or says it has."""
    if not message.body and message.header("content-digest") is None:
        return None
    try:
        stated = sha256_of_field(message)
    except Unparsable as error:
        return f"Content-Digest: {error}"
    if stated != hashlib.sha256(message.body).digest():
        return f"Content-Digest {message.header('content-digest')!r} isn't the sha-256 of the {len(message.body)} bytes sent"
    return None
