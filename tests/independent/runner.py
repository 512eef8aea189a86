"""Runs a table of named cases and prints one line for each; shared by both ends' runners."""

from __future__ import annotations

import json
import sys
import traceback
from dataclasses import dataclass
from typing import Callable

from protocol import PROBLEM, Signer, response_signature_problem
from wire import Request, Response

SIGNED, MAYBE_SIGNED = "signed", "maybe"


class Failure(Exception):
    """What was expected, and what came."""


@dataclass(frozen=True)
class Case:
    name: str
    run: Callable
    needed: bool = False  # run whatever --only says, and nothing after it if it fails


class Table(list):
    """A list of cases that functions add themselves to, named by their decorator."""

    def case(self, name: str):
        def add(function):
            self.append(Case(name, function))
            return function

        return add


def run_cases(cases: list[Case], context, only: str, verbose: bool) -> int:
    """How many failed; a case that breaks counts as failed and doesn't stop the others."""
    passed = failed = 0
    for case in [case for case in cases if case.needed or only in case.name]:
        well = run_case(case, context, verbose)
        passed, failed = passed + well, failed + (not well)
        if case.needed and not well:
            break
    print(f"{passed} passed, {failed} failed", flush=True)
    return failed


def run_case(case: Case, context, verbose: bool) -> bool:
    try:
        case.run(context)
    except Failure as failure:
        earlier = f"; before that: {failure.__context__}" if isinstance(failure.__context__, Failure) else ""
        print(f"FAIL {case.name}: {failure}{earlier}", flush=True)
        return False
    except Exception as error:  # a broken case must not hide the ones after it
        print(f"FAIL {case.name}: expected an answer, came {type(error).__name__}: {error}", flush=True)
        if verbose:
            traceback.print_exc(file=sys.stdout)
        return False
    print(f"ok   {case.name}", flush=True)
    return True


def expect(holds: bool, wanted: str, came: object) -> None:
    if not holds:
        raise Failure(f"expected {wanted}, came {came}")


def shown(response: Response) -> str:
    return f"{response.status} {response.media_type or 'no content type'} {response.body[:300]!r}"


def expect_status(response: Response, statuses) -> None:
    wanted = (statuses,) if isinstance(statuses, int) else tuple(statuses)
    expect(response.status in wanted, " or ".join(map(str, wanted)), shown(response))


def expect_signed(response: Response, request: Request, signer: Signer, how: str = SIGNED) -> None:
    """A signature that is there must be right, even where none was asked for."""
    if how == MAYBE_SIGNED and response.header("signature") is None:
        return
    problem = response_signature_problem(response, request, signer)
    expect(problem is None, "a valid response signature", f"{problem} (status {response.status})")


def expect_problem(response: Response, statuses, kinds=None) -> dict:
    """Problem details (RFC 9457) with the members the protocol promises; returns them."""
    expect_status(response, statuses)
    expect(response.media_type == "application/problem+json", "application/problem+json", shown(response))
    try:
        body = json.loads(response.body)
    except ValueError:
        raise Failure(f"expected a JSON problem, came {shown(response)}") from None
    expect(isinstance(body, dict), "a JSON object", shown(response))
    for member in ("type", "title", "detail"):
        value = body.get(member)
        expect(isinstance(value, str) and value, f"a problem with a {member}", shown(response))
    expect(body.get("status") == response.status and type(body["status"]) is int, f"status {response.status} in the body", shown(response))
    if kinds:
        wanted = [PROBLEM + kind for kind in kinds]
        expect(body["type"] in wanted, " or ".join(wanted), body["type"])
    return body


def expect_json(response: Response) -> object:
    expect(response.media_type == "application/json", "application/json", shown(response))
    try:
        return json.loads(response.body)
    except ValueError:
        raise Failure(f"expected JSON, came {shown(response)}") from None
