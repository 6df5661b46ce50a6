"""Kill replicas during refreshes, each held at a chosen step, and check the survival of the grants.

    python -m tests.long.chaos.refreshes [--kills 25] [--seed N]

Every kill with -9 finds four refreshes of four users: claimed and not sent, sent and not answered, answered and not
stored, stored. Nothing depends on timing: gates hold the store's writes, the provider holds its answer. Exit code 1
when a grant is lost that was not between sent and stored, or when a lost one is not counted by the plan of retries.
"""

import random
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple

import rich_click as click

from bg_ingest.adapters.clock import SystemClock
from bg_ingest.domain.connections import ConnectionState
from bg_ingest.domain.grants import REFUSAL_RETRY_DELAYS
from bg_ingest.domain.ids import UserId, shard_of
from bg_ingest.simulator import SimulatorOptions
from tests.harness.web import web
from tests.long.chaos.calls import read_calls
from tests.long.chaos.fleet import NAMES, Fleet, Replica, fleet
from tests.long.chaos.processes import CALLS, TimedOut, run_folder, wait_until
from tests.long.chaos.real_parts import RealParts, check_outbox_ends, real_parts
from tests.long.chaos.refresh_gate import RefreshGate, RefreshStep, open_refresh_gate
from tests.long.chaos.report import Report, console
from tests.long.chaos.store_dump import StoredGrant, StoredUser
from tests.long.chaos.users import SimulatedUser, make_users, poll_now, status

SETTINGS = {"POLL_INTERVAL_SECONDS": "86400", "BACKFILL_DAYS": "0", "SWEEP_DAYS": "0", "WEEKLY_SWEEP_DAYS": "0"}

TOKEN_LIFETIME = 60
"""Seconds of an access token's life: at most the safety margin before expiry, so every poll begins with a refresh."""

SLOW_SECONDS = 8
"""Seconds of the provider's answer to the token call of a refresh that is killed while it waits."""

SPARE_USERS = 12
"""Additional users, so that the last kills still find four users on one replica."""

SETTLE_SECONDS = 200.0
"""Seconds until all grants are used again: a dead process's claim holds for a minute from its first discovery."""


class AimedRefresh(NamedTuple):
    """A refresh killed at a step, and its stored grant at that time."""

    person: SimulatedUser
    step: RefreshStep
    held: StoredGrant
    spent: bool
    """True if the provider had rotated the stored token by then."""

    @property
    def was_there(self) -> bool:
        """True if the kill hit the refresh at the intended step."""
        return (self.held.claimed, self.spent) == {
            RefreshStep.BEFORE_SEND: (True, False),
            RefreshStep.SENT: (True, False),
            RefreshStep.ANSWERED: (True, True),
            RefreshStep.STORED: (False, False),
        }[self.step]


def kill_refreshes(
    parts: RealParts, run: Fleet, gates: Mapping[str, RefreshGate], people: Sequence[SimulatedUser], kills: int
) -> list[AimedRefresh]:
    """Kill a number of times, each time four refreshes, and restart the killed replica."""
    aimed: list[AimedRefresh] = []
    left = list(people)
    for number in range(kills):
        began = time.monotonic()
        run.get_balanced()  # the poll of a shard in hand-over would run elsewhere
        replica, four = _choose(parts, run, left)
        gate = gates[replica.name]
        for person, step in zip(four, RefreshStep, strict=True):
            left.remove(person)
            _aim(run, gate, person, step)
        for person in four:
            poll_now(replica.process, person)
        wait_until(partial(_all_held, run, gate, four), 30, "four refreshes to be held", every=0.02)
        replica.process.kill()
        gate.forget()
        aimed += _classify(parts, run, four)
        replica.restart()
        console.print(f"kill {number + 1:3} {replica.name:5} {time.monotonic() - began:5.1f} s")
    return aimed


def _choose(parts: RealParts, run: Fleet, left: Sequence[SimulatedUser]) -> tuple[Replica, Sequence[SimulatedUser]]:
    """Return the replica that serves most of the remaining users, and four of them."""
    found: list[tuple[int, Replica, Sequence[SimulatedUser]]] = []

    def poll() -> bool:
        leases = parts.snapshot().leases
        found.clear()
        for replica in run.replicas:
            owner = replica.report().get("owner")
            served = [each for each in left if leases[shard_of(UserId(each.user))].owner == owner]
            found.append((len(served), replica, served[: len(RefreshStep)]))
        return max(count for count, *_ in found) >= len(RefreshStep)

    wait_until(poll, 60, "a replica that serves four of the remaining users", every=0.5)
    _, replica, four = max(found, key=lambda each: each[0])
    return replica, four


def _aim(run: Fleet, gate: RefreshGate, person: SimulatedUser, step: RefreshStep) -> None:
    if step is RefreshStep.SENT:
        fault = {"kind": "slow", "endpoint": "token", "user": person.login, "seconds": SLOW_SECONDS, "count": 1}
        web.post(f"{run.simulated.url}/admin/faults", json=fault).raise_for_status()
    else:
        gate.aim(person.user, step)


def _all_held(run: Fleet, gate: RefreshGate, four: Sequence[SimulatedUser]) -> bool:
    sent = next(person for person, step in zip(four, RefreshStep, strict=True) if step is RefreshStep.SENT)
    if not all(gate.is_held(each.user) for each in four if each is not sent):
        return False
    faults = web.get(f"{run.simulated.url}/admin/state").json()["faults"]
    return any(each["met"] and each["fault"]["user"] == sent.login for each in faults)


def _classify(parts: RealParts, run: Fleet, four: Sequence[SimulatedUser]) -> list[AimedRefresh]:
    spent, stored = _spent_tokens(run), parts.after_kill(four)
    grants = [_held_step(stored[each.user]) for each in four]
    pairs = zip(four, RefreshStep, grants, strict=True)
    return [AimedRefresh(person, step, held, held.refresh in spent) for person, step, held in pairs]


def _spent_tokens(run: Fleet) -> set[str]:
    rotations = web.get(f"{run.simulated.url}/admin/rotations").json()
    return {each["old"] for each in rotations}


def _held_step(stored: StoredUser) -> StoredGrant:
    if stored.grant is None:
        raise ValueError("a grant is gone from the store")
    return stored.grant


def settle(parts: RealParts, run: Fleet, aimed: Sequence[AimedRefresh]) -> Mapping[str, StoredUser]:
    """Request a poll of every user, and return the stored state once each grant was refreshed or refused."""
    people = [each.person for each in aimed]
    found: dict[str, StoredUser] = {}
    for each in people:
        poll_now(run.replicas[0].process, each)

    def is_decided(each: AimedRefresh) -> bool:
        now = _held_step(found[each.person.user])
        return bool(now.refusals) or (now.refresh != each.held.refresh and not now.claimed)

    def all_are() -> bool:
        found.update(parts.after_kill(people))
        return all(map(is_decided, aimed))

    try:
        wait_until(all_are, SETTLE_SECONDS, "all grants to be used again", every=3)
    except TimedOut as waited:
        console.print(str(waited))
    time.sleep(5)  # the data call after the last refresh
    return parts.after_kill(people)


def check_grants(
    report: Report, parts: RealParts, run: Fleet, aimed: Sequence[AimedRefresh], folder: Path, since: float
) -> None:
    """Check each step's grants: only some steps may lose one, and a lost one is counted and will be tried again."""
    stored = settle(parts, run, aimed)
    spent, calls = _spent_tokens(run), read_calls(folder / CALLS)
    for step in RefreshStep:
        some = [each for each in aimed if each.step is step]
        found = sum(each.was_there for each in some)
        report.check(
            f"{step}: kills that found a refresh there", found, holds=found == len(some), expected=f"{len(some)}"
        )
        grants = {each: _held_step(stored[each.person.user]) for each in some}
        read = {each for each in some if any(call.at > since for call in calls.get(each.person.login, ()))}
        works = {
            e for e, g in grants.items() if e in read and not g.refusals and not g.claimed and g.refresh not in spent
        }
        refused = [each for each, grant in grants.items() if grant.refusals]
        may = step in (RefreshStep.SENT, RefreshStep.ANSWERED)
        expected = "all that were not refused" if may else "all"
        whole = len(works) + (len(refused) if may else 0) == len(some)
        report.check(f"{step}: grants that work", len(works), holds=whole, expected=expected)
        report.check(f"{step}: grants refused", len(refused), holds=may or not refused, expected="0")
        counted = sum(_is_counted(run, each.person, grants[each], spent) for each in refused)
        name = f"{step}: refused once, to be tried again as planned, still active"
        report.check(name, counted, holds=counted == len(refused), expected=f"{len(refused)}")


def _is_counted(run: Fleet, person: SimulatedUser, grant: StoredGrant, spent: set[str]) -> bool:
    """True if the refusal of a spent token was counted and did not change the state for now."""
    wait = grant.retry_at - SystemClock().now() if grant.retry_at else timedelta()
    shown = status(run.replicas[0].process, person)
    planned = grant.refusals == 1 and timedelta() < wait <= REFUSAL_RETRY_DELAYS[0]
    return (
        planned
        and grant.refresh in spent
        and (shown["state"], shown["last_outcome"]) == (ConnectionState.ACTIVE, "refused")
    )


@click.command()
@click.option("--seed", type=int, default=None, help="Seed of users and readings; drawn when not given.")
@click.option("--kills", default=25, show_default=True)
def main(seed: int | None, kills: int) -> None:
    """Kill four refreshes at a time, each at another step; check the grants afterwards."""
    seed = random.randrange(1_000_000) if seed is None else seed
    people = make_users(4 * kills + SPARE_USERS)
    console.print(f"seed {seed}, {kills} kills, {len(people)} users")
    began = time.monotonic()
    report = Report(f"Refreshes killed with -9 (seed {seed})")
    options = SimulatorOptions(seed=seed, users=len(people), delay_seconds=3600, access_token_seconds=TOKEN_LIFETIME)
    with run_folder("refreshes") as folder:
        with real_parts(folder) as parts, ExitStack() as opened:
            gates = {name: opened.enter_context(open_refresh_gate(parts.dynamodb.port)) for name in NAMES}
            run = opened.enter_context(
                fleet(folder, parts.service, parts.dynamodb.port, options, SETTINGS, gates=gates)
            )
            failed = run.connect(people)
            report.check("users who could not connect", len(failed), holds=not failed, expected=f"0: {failed[:3]}")
            wait_until(lambda: run.polled() == len(people) - len(failed), 60, "all users to be scheduled", every=1)
            time.sleep(5)
            aimed = kill_refreshes(parts, run, gates, people, kills)
            run.get_balanced()
            check_grants(report, parts, run, aimed, folder, SystemClock().now().timestamp())
            codes = [each.process.stop()[0] for each in run.replicas]
            report.check("exit codes at the end", codes, holds=not any(codes), expected="0 each")
            check_outbox_ends(report, parts, people)
        report.figure("minutes", round((time.monotonic() - began) / 60, 1))
        report.show()


if __name__ == "__main__":
    main()
