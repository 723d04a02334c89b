"""The `command` worker: a program of the operator's, without network, under limits, metered by its processor time."""

from __future__ import annotations

import json
import logging
import signal
from dataclasses import dataclass, field
from typing import Any

from gateway.catalogue.estimate import cpu_cost_sats
from gateway.catalogue.json_values import JsonLimits, json_fault
from gateway.catalogue.model import CommandWork
from gateway.work.command_sandbox import MAX_OUTPUT_BYTES, Ended, Sandbox
from gateway.work.worker import Done, WorkFailed, WorkOrder

_LOG = logging.getLogger(__name__)

RESULT_LIMITS = JsonLimits(depth=64, values=200_000)
PROGRAM = "The program that does this work"


@dataclass(frozen=True, slots=True)
class CommandWorker:
    """The input is JSON on the program's stdin; what it writes to stdout is the result: JSON if it is, else text.

    An exit code other than 0 fails the work. What it writes to stderr goes to the log, never to the payer.
    """

    sandbox: Sandbox = field(default_factory=Sandbox)

    async def run(self, order: WorkOrder) -> Done | WorkFailed:
        if not isinstance(order.work, CommandWork):
            raise TypeError(f"{order.work.name} is no command work")
        ended = await self.sandbox.run(order.work, order.work.command, order.input)
        if ended.end != "exit" or ended.code != 0:
            _LOG.warning("the command of %s: %s, %s: %s", order.work.name, ended.end, ended.code, ended.complaint)
            return why_it_failed(order.work, ended)
        return read_result(ended, order.work)


def why_it_failed(entry: CommandWork, ended: Ended) -> WorkFailed:
    match ended.end:
        case "exit" if ended.code is not None and ended.code < 0:
            return WorkFailed(f"{PROGRAM} was ended by {signal_name(-ended.code)}.")
        case "exit":
            return WorkFailed(f"{PROGRAM} ended with exit code {ended.code}.")
        case "cpu":
            return WorkFailed(f"{PROGRAM} used up its {entry.price.max_cpu_s} seconds of processor time.")
        case "memory":
            return WorkFailed(f"{PROGRAM} used more than {entry.memory_mb} MB of memory.")
        case "time":
            return WorkFailed(f"{PROGRAM} took longer than {entry.timeout_s} seconds.")
        case "output":
            return WorkFailed(f"{PROGRAM} wrote more than {MAX_OUTPUT_BYTES} bytes.")
        case _:
            return WorkFailed(f"{PROGRAM} could not be started.", by_worker=False)


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def read_result(ended: Ended, entry: CommandWork) -> Done | WorkFailed:
    try:
        text = ended.output.decode()
    except UnicodeDecodeError:
        return WorkFailed(f"{PROGRAM} wrote something that is no text.")
    try:
        result = result_of(text)
    except RecursionError:
        return WorkFailed(f"{PROGRAM} wrote something that cannot be kept.")
    if json_fault(result, RESULT_LIMITS):
        return WorkFailed(f"{PROGRAM} wrote something that cannot be kept.")
    return Done(result, cpu_cost_sats(entry.price, ended.cpu_us))


def result_of(text: str) -> Any:
    """The JSON value that the text is, else the text."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except ValueError:
        return text


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
