"""Simulated Dexcom with users, readings and faults of its own: for the demo, load tests and development.

The behaviour follows the real v3 API as far as that is known. The simulator shares only the domain with the code that
calls it.
"""

from bg_ingest.simulator.app import create_simulator
from bg_ingest.simulator.journal import JournalUnreadable
from bg_ingest.simulator.options import SimulatorOptions
from bg_ingest.simulator.readings import TrueReading
from bg_ingest.simulator.replay import REPLAY_USER, ReplayedWearer, ReplayUnreadable
from bg_ingest.simulator.simulator import Simulator, UnknownUser

__all__ = [
    "REPLAY_USER",
    "JournalUnreadable",
    "ReplayUnreadable",
    "ReplayedWearer",
    "Simulator",
    "SimulatorOptions",
    "TrueReading",
    "UnknownUser",
    "create_simulator",
]
